"""Where the server listens, and the token that lets in: settled before anything else is made.

The socket is made in the network namespace that the process was started in. A rootless server leaves it; the socket
does not (network_namespaces(7)), and is how it can be reached.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from rawtap.errors import ServerCannotStart

TOKEN_VARIABLE = "RAWTAP_TOKEN"  # noqa: S105 - its name
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 7298

_BACKLOG = 128
_DEFAULT_OF_HTTP = 80  # which clients leave out
_LEAST, _MOST = 16, 4096  # characters of a token
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token, RFC 6750 2.1
_ADDRESS = re.compile(r"(?:(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):)?(?P<port>[0-9]{1,5})")
_OTHERS = 0o077
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def default_token_file() -> Path:
    """Beside the captures of the default."""
    return platformdirs.user_state_path("rawtap") / "http-token"


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 is any free one."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT

    @classmethod
    def parsed(cls, text: str) -> Address:
        """Of ``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``.

        Raises:
            ValueError: It is none of these.
        """
        match = _ADDRESS.fullmatch(text)
        if not match or int(match["port"]) > 65535:  # noqa: PLR2004 - 16 bits
            raise ValueError(f"{text!r} is no PORT, HOST:PORT or [IPV6]:PORT")
        return cls(match["v6"] or match["host"] or DEFAULT_HOST, int(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Token:
    """What a client must know, and where the operator finds it."""

    secret: bytes
    origin: str

    def opens(self, given: bytes) -> bool:
        """Whether that is it; takes as long whatever is given (hmac.compare_digest)."""
        import secrets

        return secrets.compare_digest(self.secret, given)


@dataclass(frozen=True)
class Names:
    """What the server may be called by, and which web pages may call it.

    Attributes:
        hosts: Of the Host header, ``NAME:PORT``; ``NAME`` is that without a port, ``NAME:*`` with any.
        origins: Of web pages, ``https://NAME``; the server's own, its hosts', are let in anyway.
    """

    hosts: tuple[str, ...]
    origins: tuple[str, ...] = ()

    def is_ours(self, host: str) -> bool:
        """Whether a Host header names this server; names have no case (RFC 9110 4.2.3)."""
        host = host.lower()
        name, colon, port = host.rpartition(":")
        known = [each.lower() for each in self.hosts]
        return host in known or (bool(colon) and port.isdigit() and f"{name}:*" in known)

    def may_ask(self, origin: str) -> bool:
        """Whether a page of that origin may call. An empty one, and ``null``, is none that is allowed."""
        scheme, _, host = origin.partition("://")
        if scheme.lower() in {"http", "https"} and self.is_ours(host):
            return True
        return origin.lower() in [each.lower() for each in self.origins]


def listening_on(address: Address) -> socket.socket:
    """A socket that listens there already: who connects from now on waits to be answered.

    Raises:
        ServerCannotStart: The address is taken, not this machine's, or not allowed.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
            made.listen(_BACKLOG)
            stack.pop_all()
            return made
    except OSError as error:
        raise ServerCannotStart(
            f"cannot listen on {address}",
            evidence=error.strerror or str(error),
            cure="Choose another address: --http HOST:PORT; port 0 takes a free one",
        ) from error


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    import ipaddress

    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def host_names(given: str, listening: socket.socket) -> list[str]:
    """What the Host header may be: the address as it was given and as it is bound, with the port (RFC 9110 7.2).

    A socket on all addresses is known by the loopback's names only; the operator adds others.
    """
    import ipaddress

    bound, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(bound.partition("%")[0])
    names = set(_LOOPBACK_NAMES) if address.is_loopback or address.is_unspecified else set()
    if not address.is_unspecified:
        names |= {_bracketed(given), _bracketed(bound)}
    with_port = [f"{name}:{port}" for name in sorted(names)]
    return with_port + sorted(names) if port == _DEFAULT_OF_HTTP else with_port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def token_from(file: Path | None, environment: MutableMapping[str, str]) -> Token:
    """The token of that file, else of the environment, which loses it; else of the default file.

    A file that does not exist is made, mode 0600, with a fresh random token.

    Raises:
        ServerCannotStart: Others can read the file, it is not ours, or what it holds is no token.
    """
    given = environment.pop(TOKEN_VARIABLE, None)
    if given is not None and file is None:
        return Token(_checked(given, f"${TOKEN_VARIABLE}"), f"that of ${TOKEN_VARIABLE}")
    file = (file or default_token_file()).absolute()
    try:
        return Token(_checked(_read_or_make(file), str(file)), f"in {file}")
    except OSError as error:
        raise ServerCannotStart(
            f"cannot use the token file {file}",
            evidence=error.strerror or str(error),
            cure="Name a file of your own: --token-file FILE",
        ) from error


def _read_or_make(file: Path) -> str:
    import secrets

    with contextlib.suppress(FileNotFoundError):
        return _read(file)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as made:
            made.write(secrets.token_urlsafe(32) + "\n")
        with contextlib.suppress(FileExistsError):  # another server was first: its token is the one
            os.link(part, file)
    finally:
        part.unlink()
    return _read(file)


def _read(file: Path) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _unsafe(file, "it is no regular file", "Name a file of your own: --token-file FILE")
        if found.st_uid != os.geteuid():
            raise _unsafe(file, f"it belongs to user {found.st_uid}", "Name a file of your own: --token-file FILE")
        if found.st_mode & _OTHERS:
            raise _unsafe(
                file, f"others can reach it: mode {stat.S_IMODE(found.st_mode):04o}", f"Run: chmod 600 {file}"
            )
        return opened.read(_MOST + 2).decode("ascii", "replace")


def _unsafe(file: Path, evidence: str, cure: str) -> ServerCannotStart:
    return ServerCannotStart(f"the token file {file} is not safe", evidence=evidence, cure=cure)


def _checked(text: str, origin: str) -> bytes:
    """The token in `text`, which never is in an error."""
    token = text.strip()
    if not _LEAST <= len(token) <= _MOST or not _TOKEN.fullmatch(token):
        raise ServerCannotStart(
            f"{origin} holds no token",
            evidence=f"one has {_LEAST} to {_MOST} letters, digits and ._~+/-",
            cure="Make one: openssl rand -hex 32; or name a file that does not exist, and it is made",
        )
    return token.encode("ascii")
