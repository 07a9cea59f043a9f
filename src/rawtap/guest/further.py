"""A guest's consoles besides the main one: its further serial ports, and what else it speaks on."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace

from rawtap.errors import RequestInvalid
from rawtap.guest.console import Console
from rawtap.guest.models import nearest
from rawtap.guest.profile import Profile
from rawtap.guest.talk import Talk


class Consoles:
    """All of one guest's, each with what is said on it.

    A further one has no prompt and no login of the profile's: what ends a command there is learned, or is waited for.
    `halt_told` is whether an answer told why the guest stands: that of a call on one of them, or of the one that
    stopped it.
    """

    def __init__(self, profile: Profile, main: Talk, further: Mapping[str, socket.socket]) -> None:
        plain = replace(profile, prompt="", prompts={}, login=None, framing=False, interrupt=None)
        self._main = main
        self._names = profile.main_names
        self.halt_told = False
        self.further = {name: Talk(Console(ours), plain) for name, ours in further.items()}

    def talk(self, name: str | None) -> Talk:
        """That of a name; the main one's where None.

        Raises:
            RequestInvalid: There is no such console.
        """
        if name is None or name in self._names:
            return self._main
        if (found := self.further.get(name)) is not None:
            return found
        known = [*sorted(self._names), *self.further]
        raise RequestInvalid(
            f"the guest has no console {name!r}{nearest(name, known)}",
            evidence=f"it has {', '.join(known)}",
            cure='Name further ones in rawtap.toml, like serial = ["main", "log"], or leave console out',
        )

    def halt(self, words: str | None) -> None:
        """The guest stands still for the reason in `words`, or runs again: whoever waits for it is told."""
        self.halt_told = False
        for talk in (self._main, *self.further.values()):
            talk.console.halted = words
            talk.console.look()

    def drain(self) -> None:
        """Read all that the further ones have shown by now."""
        for each in self.further.values():
            each.console.drain()

    def close(self) -> None:
        """Stop reading the further ones; what they said stays."""
        for each in self.further.values():
            each.console.close()
