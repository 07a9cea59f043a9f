from collections.abc import Iterable

def spawn(
    argv: list[bytes],
    environment: dict[bytes, bytes],
    streams: tuple[int, int, int],
    passed: tuple[int, ...],
    *,
    folder: bytes | None,
    ruleset: int,
    capabilities: Iterable[int],
    tied: bool,
    session: bool,
) -> int: ...
