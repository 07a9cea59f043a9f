from collections.abc import Iterable, Sequence

from rawtap.packets._savefile import Savefile

FORMATS: dict[str, str]

class Source:
    fd: int
    name: str
    group: int
    before: int
    packets: int | None
    start_ns: int | None
    live: bool
    def __init__(
        self,
        fd: int,
        name: str,
        *,
        group: int = 0,
        before: int = 0,
        packets: int | None = None,
        start_ns: int | None = None,
        live: bool = False,
    ) -> None: ...
    def open(self) -> Savefile: ...

class Packets:
    sources: list[Source]
    wanted: frozenset[str]
    late: bool
    lacking: dict[int, tuple[int, str]]
    unread: int
    unnumbered: int
    def __init__(self, sources: Iterable[Source], wanted: Iterable[str], late: bool = False) -> None: ...
    def lines(self, source: int, places: Sequence[tuple[int, str]]) -> dict[str, str]: ...
    def first_of(self, stream: int) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...
