"""Who may come in: the rules, and the answers that a stranger gets without its request being parsed.

In this order: the Host header, which a rebound name of somebody's page would betray; the Origin header, which that page
cannot leave out; the token.

Theory of operation. To parse a request in full, and to run a task for it, costs several times what the connection does
that it came by, and whoever has no token should not get it done. So the first bytes of a connection are looked at as
they are: what is no request at all, or plainly one that may not come in, is refused there. Everything else, odd forms
included, is parsed, and the same rules are applied to each request again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from rawtap.http.door import Names, Token

# RFC 9112 3 and 5, without its odd forms.
_HEAD = re.compile(
    rb"(?:GET|POST|DELETE) [!-~]+ HTTP/1\.1\r\n(?P<fields>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*)\r\n"
)
_END = re.compile(rb"\n\r?\n")  # a bare LF may end a line (RFC 9112 2.2)
_LONGEST_HEAD = 16384  # bytes, as the parser has it


@dataclass(frozen=True)
class Refusal:
    """What whoever may not come in is told."""

    status: HTTPStatus
    text: str
    challenge: str | None = None  # WWW-Authenticate

    @property
    def headers(self) -> dict[str, str]:
        """Besides those of any text. A stranger's next request is another connection's: it is counted by these."""
        return {"Connection": "close"} | ({"WWW-Authenticate": self.challenge} if self.challenge else {})

    def to_bytes(self) -> bytes:
        """The whole response."""
        fields = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(self.text)),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} {self.status.phrase}\r\n{lines}\r\n{self.text}".encode("ascii")


_NO_HTTP = Refusal(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.\n")
_TOO_LONG = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too long\n")


@dataclass(frozen=True)
class Turned:
    """A connection's first request, which may not come in: its answer, and whether all of it is here."""

    answer: bytes
    is_whole: bool


@dataclass(frozen=True)
class Gate:
    """The rules of one server."""

    names: Names
    token: Token

    def refusal(self, host: str, origins: Iterable[str], authorization: str) -> Refusal | None:
        """What a request with these headers gets, "" for one that is missing; None if it may come in."""
        if not self.names.is_ours(host):
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, "Invalid Host header\n")
        if not all(map(self.names.may_ask, origins)):
            return Refusal(HTTPStatus.FORBIDDEN, "Invalid Origin header\n")
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.token.opens(given.strip().encode("latin-1")):
            return None
        # RFC 6750 3: without credentials the challenge names no error.
        challenge = 'Bearer realm="rawtap"' + (', error="invalid_token"' if scheme else "")
        text = "This needs the server's token: Authorization: Bearer TOKEN. The operator has it.\n"
        return Refusal(HTTPStatus.UNAUTHORIZED, text, challenge)

    def is_to_be_continued(self, begun: bytes) -> bool:
        """Whether what a connection began with may yet become a request's headers."""
        return begun[:1].isupper() and len(begun) < _LONGEST_HEAD and not _END.search(begun)

    def turned(self, begun: bytes) -> Turned | None:
        """The answer to a connection's first request where that may not come in; None if it may, or must be parsed."""
        if not begun[:1].isupper():
            return Turned(_NO_HTTP.to_bytes(), is_whole=False)
        if not _END.search(begun, 0, _LONGEST_HEAD):
            return Turned(_TOO_LONG.to_bytes(), is_whole=False)
        head = _HEAD.match(begun)
        if head is None:
            return None
        fields = [(name.lower(), value.strip(b" \t")) for name, _, value in _split(head["fields"])]
        hosts = [value for name, value in fields if name == b"host"]
        allowed = [value for name, value in fields if name == b"authorization"]
        origins = [value.decode("latin-1") for name, value in fields if name == b"origin"]
        if len(hosts) != 1 or len(allowed) > 1:
            return None
        refusal = self.refusal(hosts[0].decode("latin-1"), origins, b"".join(allowed).decode("latin-1"))
        # A page that may ask is to see why it is refused: what browsers want for that, the parsed way adds.
        if refusal is None or (origins and refusal.status == HTTPStatus.UNAUTHORIZED):
            return None
        return Turned(refusal.to_bytes(), _body_is_here(fields, len(begun) - head.end()))


def _split(fields: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [line.partition(b":") for line in fields.split(b"\r\n")[:-1]]


def _body_is_here(fields: list[tuple[bytes, bytes]], here: int) -> bool:
    lengths = [value for name, value in fields if name == b"content-length"]
    if any(name == b"transfer-encoding" for name, _ in fields):
        return False
    return not lengths or (lengths[0].isdigit() and int(lengths[0][:20]) <= here)
