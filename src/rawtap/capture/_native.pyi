from rawtap.capture._unfiltered import UnfilteredCount
from rawtap.capture._worker import Worker

class LiveCapture(Worker):
    def open(
        self,
        interface: str,
        *,
        index: int,
        ring_bytes: int,
        loopback: bool = False,
        promiscuous: bool = True,
        retire_ms: int = 5,
        more: tuple[int, ...] = (),
    ) -> None: ...
    def watch(self, unfiltered: UnfilteredCount) -> None: ...

def library_version() -> str: ...
