"""What can be said of a capture filter before libpcap sees it. Pure."""

from __future__ import annotations

from rawtap.errors import BadFilter

MAX_LENGTH = 2048


def checked(expression: str) -> str:
    """Return `expression` if libpcap may be given it.

    Syntax: pcap-filter(7). libpcap reads a C string, so a NUL byte would silently cut the filter short; and its
    optimizer's time grows with the square of the expression's length or worse, so the length is bounded.

    Raises:
        BadFilter: A NUL byte, a character outside ASCII, or too long.
    """
    if "\0" in expression:
        raise BadFilter.because(expression, "it holds a NUL byte, where libpcap would stop reading")
    if not expression.isascii():
        raise BadFilter.because(expression, "it holds characters outside ASCII, which pcap-filter(7) does not know")
    if len(expression) > MAX_LENGTH:
        raise BadFilter.because(
            expression,
            f"it has {len(expression)} characters; at most {MAX_LENGTH} are taken, since the time to compile one "
            "grows much faster than its length",
        )
    return expression
