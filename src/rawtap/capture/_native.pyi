from collections.abc import Callable

from rawtap.capture._witness import Witness

MAX_SNAPLEN: int

class NativeError(Exception):
    text: str
    status: int
    errno: int
    def __init__(self, text: str, status: int = 0, number: int = 0) -> None: ...

class FilterError(NativeError): ...

class LiveCapture:
    received: int
    dropped_kernel: int
    dropped_interface: int
    unaccounted: int
    went_down: bool
    link_type: int
    link_type_name: str
    warning: str
    pcap_error: str
    file_error: Exception | None
    def __init__(self) -> None: ...
    def open(
        self,
        interface: str,
        *,
        index: int,
        snaplen: int,
        pcapng: bool,
        ring_bytes: int,
        promiscuous: bool = True,
        retire_ms: int = 5,
    ) -> None: ...
    def arm(self, expression: str) -> None: ...
    def header(self) -> bytes: ...
    def watch(self, witness: Witness) -> None: ...
    def begin_file(self, fd: int, header: bytes, max_bytes: int, retired_fd: int = -1) -> None: ...
    def note(self, words: memoryview, slot: int) -> None: ...
    def end_file(self, trailer: bytes) -> None: ...
    def run(
        self,
        *,
        max_packets: int,
        max_seconds: float,
        free_floor: int,
        on_full: Callable[[], None] | None = None,
    ) -> None: ...
    def request_stop(self) -> None: ...
    def close(self) -> None: ...
    @property
    def packets(self) -> int: ...
    @property
    def wire_bytes(self) -> int: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def error(self) -> int: ...
    @property
    def reason(self) -> str | None: ...

def library_version() -> str: ...
