"""Whether a stop's names are those of the code that is in memory there, and not only of a file with symbols.

A stop is told at once, and its code is looked at when somebody asks. Once other code was found, the names of further
stops are left out until their code was looked at, too.
"""

from __future__ import annotations

from dataclasses import replace

from rawtap.debug.code import Code, Read
from rawtap.debug.stops import Place, Stop


class Names:
    """Those of one guest.

    Attributes:
        code: That of the files with its symbols.
    """

    def __init__(self, code: Code | None = None) -> None:
        self.code = code or Code()
        self._known: Stop | None = None  # whose code was looked at last
        self._are_doubted = False

    def sure(self, stop: Stop) -> Stop:
        """The stop as it may be told."""
        return _nameless(stop) if self._are_doubted and stop is not self._known else stop

    async def verified(self, stop: Stop, read: Read) -> Stop:
        """The stop, without names where other code is in memory; another object where it is to be told anew."""
        address = stop.place.number
        if stop is self._known or not stop.place.function or address is None:
            return stop
        if self.code.has_none(address):
            self._known = _nameless(stop)
        elif await self.code.look(address, read) == "other":
            unlike = str(await self.code.moved(address, read) or self.code.told(address))
            self._known, self._are_doubted = replace(_nameless(stop), unlike=unlike), True
        else:
            self._known = replace(stop) if self._are_doubted else stop
            self._are_doubted = False
        return self._known

    async def moved(self, stop: Stop, read: Read) -> str:
        """That the code where it stands is elsewhere by the symbols, in words; "" where that is not known."""
        if stop.place.function or stop.unlike or stop.place.number is None:
            return ""
        return str(await self.code.moved(stop.place.number, read) or "")


def _nameless(stop: Stop) -> Stop:
    return replace(stop, place=Place(stop.place.address), arguments=(), returned="")
