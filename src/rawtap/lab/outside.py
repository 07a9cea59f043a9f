"""The way out for guests: whether the operator allows it, and having it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from rawtap.blocking import in_thread
from rawtap.errors import OutsideUnavailable
from rawtap.host import distribution, pasta
from rawtap.host.pasta import Pasta
from rawtap.network import forwarding, resolver
from rawtap.network.forwarding import Inside, Way
from rawtap.settings import Settings

Note = Callable[[str, str], None]


@dataclass(frozen=True)
class Policy:
    """What the operator chose, and what there is for it.

    Attributes:
        refused: Why there is no way out, None where there may be one.
        asked: Whether the operator asked for it himself: then a boot that cannot have it says so.
        rootless: Whether the way leads through pasta.
        pasta: What can start it.
    """

    refused: str | None
    asked: bool
    rootless: bool
    pasta: Pasta | None = None


def policy(settings: Settings, helper: Pasta | None = None) -> Policy:
    """The operator's choice. Without one, guests have a way out only if the server is rootless and pasta is installed.

    On the host itself it takes his word: it opens the host's network to guests.
    """
    refused = None
    if settings.outside is False:
        refused = "the operator does not allow it (--no-outside)"
    elif settings.outside is None and not settings.rootless:
        refused = "the operator has not allowed it; rawtap serve --outside would"
    elif settings.outside is None and helper is None:
        refused = f"pasta is not installed. {distribution.here().cure(pasta.PACKAGE)}"
    return Policy(refused, bool(settings.outside), settings.rootless, helper)


def reached_by_pasta(chosen: Policy, note: Note) -> AbstractAsyncContextManager[None]:
    """Ports of the host's loopback lead into this server's namespace until the block's end.

    Raises:
        OutsideUnavailable: pasta is missing, or, when the block begins, does not start.
    """
    if chosen.pasta is None:
        raise OutsideUnavailable(
            "no port of this machine leads to the guest: pasta is not installed",
            cure=f"{distribution.here().cure(pasta.PACKAGE)}, or leave forward out",
        )
    return chosen.pasta.connected(note)


@asynccontextmanager
async def opened(inside: Inside, chosen: Policy, note: Note) -> AsyncIterator[Way]:
    """A way out for a bridge's guests, which the policy allows; closed with the block.

    Raises:
        OutsideUnavailable: It cannot be had; why is inside, and nothing is left.
        NetworkError: Another of its kinds.
    """
    async with AsyncExitStack() as stack:
        if chosen.rootless:
            if chosen.pasta is None:
                raise OutsideUnavailable(
                    "no way out: pasta is not installed", cure=distribution.here().cure(pasta.PACKAGE)
                )
            await stack.enter_async_context(chosen.pasta.connected(note))
        way = await stack.enter_async_context(in_thread(forwarding.opened(inside)))
        for family, uplink in way.gate.uplinks():
            note("outside", f"{inside.bridge} has a way out by {uplink} ({family})")
        yield way


def name_servers(chosen: Policy) -> tuple[str, ...]:
    """The name servers that names are looked up at, once there is a way out."""
    servers = resolver.name_servers()
    return tuple(resolver.within_reach(servers, pasta.DNS) if chosen.rootless else servers)
