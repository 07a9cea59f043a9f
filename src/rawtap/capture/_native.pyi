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
    def __init__(self) -> None: ...
    def open(
        self,
        interface: str,
        *,
        index: int,
        snaplen: int,
        ring_bytes: int,
        promiscuous: bool = True,
        retire_ms: int = 5,
    ) -> None: ...
    def arm(self, expression: str) -> None: ...
    def header(self) -> bytes: ...
    def run(
        self,
        fd: int,
        *,
        max_bytes: int,
        max_packets: int,
        max_seconds: float,
        free_floor: int,
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

def syntax_error(expression: str) -> str: ...
def library_version() -> str: ...
