"""TFTP messages, as far as a judgement needs them (RFC 1350; options: RFC 2347, 2348 and 7440). Pure."""

from __future__ import annotations

from typing import NamedTuple

READ, WRITE, DATA, ACK, ERROR, OPTIONS = range(1, 7)
PORT = 69
MODES = ("netascii", "octet", "mail")
BLOCK = 512  # bytes, where no option says another size
ERRORS = (
    "error", "file not found", "access violation", "disk full", "illegal operation", "unknown transfer", "file exists",
    "no such user", "options refused",
)  # fmt: skip

_HEAD = 4  # bytes: the opcode, and a number or the first bytes of a name
_STRINGS = {READ: 2, WRITE: 2, OPTIONS: 2, ERROR: 4}  # opcodes with strings, and where these begin


class Tftp(NamedTuple):
    """A message. `number` is a block's, or an error's code; `size` bytes of data come with a block.

    `strings` are the file, the mode and the options of a request, an OACK's options, or an error's text (untrusted);
    `ended` is whether the last of them has its zero.
    """

    opcode: int
    number: int
    size: int
    strings: tuple[str, ...]
    ended: bool

    @property
    def options(self) -> dict[str, str]:
        """By their names in small letters, as these are compared (RFC 2347)."""
        pairs = self.strings[2:] if self.opcode in {READ, WRITE} else self.strings
        return {name.lower(): value for name, value in zip(pairs[::2], pairs[1::2], strict=False)}

    def option(self, name: str, otherwise: int) -> int:
        """An option that is a number."""
        value = self.options.get(name, "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < _HEAD * 2 else otherwise


def parse(data: bytes, size: int) -> Tftp | None:
    """The message in a datagram of `size` bytes, of which `data` were captured; None where it is none."""
    if len(data) < _HEAD:
        return None
    opcode = int.from_bytes(data[:2], "big")
    number = int.from_bytes(data[2:4], "big")
    if opcode in {DATA, ACK}:
        return Tftp(opcode, number, size - _HEAD, (), ended=True)
    if (begin := _STRINGS.get(opcode)) is None:
        return None
    strings = data[begin:].decode("latin-1").split("\0")
    last = strings.pop()
    return Tftp(opcode, number, 0, (*strings, last) if last else tuple(strings), ended=not last)
