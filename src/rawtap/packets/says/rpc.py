"""Remote procedure calls, and NFS among them (RFC 5531, RFC 1813)."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from rawtap.packets.says.words import Found, Known, Words, named, number, surely

_PROGRAMS = {
    100000: "Portmap", 100003: "NFS", 100005: "MOUNT", 100021: "NLM", 100024: "STAT", 100004: "YPSERV",
    100007: "YPBIND", 100227: "NFSACL", 100011: "RQUOTA",
}  # fmt: skip
_NFS3 = (
    "NULL", "GETATTR", "SETATTR", "LOOKUP", "ACCESS", "READLINK", "READ", "WRITE", "CREATE", "MKDIR", "SYMLINK",
    "MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK", "READDIR", "READDIRPLUS", "FSSTAT", "FSINFO", "PATHCONF", "COMMIT",
)  # fmt: skip
_STATES = ("accepted", "denied")


def at_port(name: str, words: Words) -> Known:
    """`words` at the port of the program `name`: replies are its own."""

    def told(payload: bytes) -> Found:
        found = words(payload)
        return found[1] if isinstance(found, tuple) and found[0] == "RPC" else found

    return name, surely(told)


def datagram(payload: bytes) -> tuple[str, str] | None:
    """A call, with its program, or a reply, which does not say whose it is."""
    if len(payload) < 24:
        return None
    xid, way = number(payload, 0, 4), number(payload, 4, 4)
    if way == 0 and number(payload, 8, 4) == 2:
        program, version, procedure = (number(payload, at, 4) for at in (12, 16, 20))
        if not 100000 <= program < 0x60000000 or not version:  # or it is NTP's, of who just started
            return None
        said = named(_NFS3, procedure, "procedure") if (program, version) == (100003, 3) else f"procedure {procedure}"
        name = named(_PROGRAMS, program, "program")
        return _PROGRAMS.get(program, "RPC"), f"call xid=0x{xid:08x} {name} v{version} {said}"
    if way == 1 and number(payload, 8, 4) <= 1 and number(payload, 12, 4) <= 8:
        return "RPC", f"reply xid=0x{xid:08x} {_STATES[payload[11]]}"
    return None


def stream(payload: bytes) -> tuple[str, str] | None:
    """The same behind the mark of a record in TCP (RFC 5531, 11)."""
    if payload[0] & 0x80 == 0 or number(payload, 0, 4) & 0x7FFFFFFF > 1 << 21:
        return None
    return datagram(payload[4:])
