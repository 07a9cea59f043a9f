"""Compiling a filter: what comes out, what bounds it, and that a child of the server's leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rawtap import _bpf
from rawtap._bpf import FilterRefused, instructions, is_harmless
from rawtap.capture import filters
from rawtap.errors import BadFilter
from support import PATIENCE, children_of, eventually, exists, new_children, status_of

LOOKED_UP = ("unknown host", "unknown network", "unknown ether")  # how libpcap's texts begin that say so
SLOW = "port " + " or ".join(map(str, range(289)))  # 6 s; 1911 characters
FOR_A_MOMENT = "port " + " or ".join(map(str, range(140)))  # 0.5 s
LONG = " or ".join(f"ether[{number}:4] = 1" for number in range(880))  # 14 kB of instructions
TOO_LONG = " or ".join(f"ip6 protochain {number}" for number in range(200))
WLAN = 105  # DLT_IEEE802_11
BPF_JA, BPF_RET = 0x05, 0x06  # linux/filter.h

HARMLESS = [
    "",
    "icmp",
    "udp port 53",
    "not arp and (host 10.0.2.15 or net 10.0.0.0/8)",
    "tcp portrange 1-1024 || !udp",
    "ip6 host fe80::5054:ff:fe12:3456 or net 2001:db8::/32",
    "ether host 52:54:00:12:34:56 and ether proto 0x88b5",
    "greater 80\nand\tless 1000",
]
OTHERS = [
    "tcp[13] & 2 != 0",
    "len > 100",
    "vlan and ip",
    "tcp port http",
    "wlan type data",
    "inbound",
]
NAMES = [
    "host example.com",
    "host face",
    "host 1-2",
    "host 1.2.3.4.5",
    "host 1.",
    "host 0x1.2",
    "host ::1%lo",
    "host \\ip",
    "portrange 1-2-3",
    "tcp-foo",
]


@contextmanager
def nothing_left() -> Iterator[None]:
    """No child and no descriptor more than before."""
    children, files = children_of(os.getpid()), open_files()
    yield
    assert eventually(lambda: not new_children(children))
    assert open_files() <= files


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def result(expression: str, *, seconds: float = PATIENCE, **how: Any) -> bytes | str:
    """The program, or why there is none. A second, which a server gives it, may be too little on a busy machine."""
    try:
        return instructions(expression, seconds=seconds, **how)
    except FilterRefused as error:
        return str(error)


@contextmanager
def at_work(work: Callable[[], object]) -> Iterator[int]:
    """Run `work`, which compiles something slow, in a thread; the child that it has."""
    known = children_of(os.getpid())
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        assert eventually(lambda: len(new_children(known)) == 1)
        yield new_children(known).pop()
        done.result()


@pytest.mark.parametrize("expression", HARMLESS)
def test_a_harmless_expression_is_compiled_in_place_to_what_a_child_makes_of_it(expression: str) -> None:
    assert is_harmless(expression)
    assert result(expression) == result(expression, in_child=True)
    assert isinstance(result(expression), bytes)


@pytest.mark.parametrize("expression", OTHERS + NAMES + ["ip or " * 8 + "ip", " " * 257])
def test_any_other_expression_is_not(expression: str) -> None:
    assert not is_harmless(expression)


SIMPLE = """
and or not ether ip ip6 arp rarp tcp udp sctp icmp icmp6 src dst host net port proto ( ) ! less broadcast
1.2.3.4 10/8 10.0.0.0/9 ::1 2001:db8::/33 53 0x88b5 02:00:5e:00:53:01
"""
WORDS = st.sampled_from([*SIMPLE.split(), "portrange 1-9"])


@given(st.lists(WORDS, max_size=16).map(" ".join), st.sampled_from([1, WLAN, 113]))
@settings(max_examples=200, deadline=None)
def test_no_harmless_expression_is_long_or_looked_up(expression: str, link_type: int) -> None:
    assert is_harmless(expression)
    found = result(expression, link_type=link_type)
    assert len(found) < 8 * 500 if isinstance(found, bytes) else not found.startswith(LOOKED_UP)


def test_the_empty_filter_takes_every_packet_whole() -> None:
    assert instructions("") == (0x06).to_bytes(2, sys.byteorder) + bytes(2) + (262144).to_bytes(4, sys.byteorder)


def test_what_takes_too_long_is_refused_when_its_time_is_over() -> None:
    with nothing_left(), pytest.raises(FilterRefused, match="not done after 1 s"):
        instructions(SLOW)


def test_what_counts_is_the_time_that_it_worked() -> None:
    """On a busy machine the time that passes is no measure: this child stands still for more than it has."""
    seconds = 1.5
    done: list[bytes | str] = []
    with nothing_left(), at_work(lambda: done.append(result(FOR_A_MOMENT, seconds=seconds))) as child:
        os.kill(child, signal.SIGSTOP)
        until = time.monotonic() + seconds + 1
        assert eventually(lambda: time.monotonic() > until)
        os.kill(child, signal.SIGCONT)
    assert [type(each) for each in done] == [bytes]


def test_what_gets_no_processor_at_all_is_refused_as_such() -> None:
    done: list[bytes | str] = []
    with nothing_left(), at_work(lambda: done.append(result(SLOW, seconds=0.3))) as child:
        os.kill(child, signal.SIGSTOP)
    assert done == ["its compiler got no 0.3 s of work done in 10 times as long; try again"]


def test_what_wants_too_much_memory_is_refused() -> None:
    """In a process of its own: what malloc holds free here after other tests comes on top of the 4 MiB."""
    call = f"from rawtap._bpf import instructions; instructions({SLOW!r}, memory_bytes=4 << 20, seconds=60)"
    done = subprocess.run([sys.executable, "-c", call], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "BoundPassed: its compiler wanted more than 4 MiB of memory" in done.stderr


def test_a_crash_of_libpcaps_compiler_is_an_error_like_any_other() -> None:
    """Its optimizer goes down the program's branches by recursion: on a small stack that ends at the guard page."""
    told: list[bytes | str] = []
    before = threading.stack_size(64 << 10)
    try:
        thread = threading.Thread(target=lambda: told.append(result(SLOW)))
        with nothing_left():
            thread.start()
            thread.join()
    finally:
        threading.stack_size(before)
    assert told == ["its compiler crashed on this expression (SIGSEGV); use a simpler one"]


def test_a_program_that_the_kernel_would_not_take_is_refused_with_its_length() -> None:
    with nothing_left(), pytest.raises(FilterRefused, match=r"has \d+ instructions, of which the kernel takes 4096"):
        instructions(TOO_LONG, seconds=PATIENCE)


def test_what_libpcap_refuses_has_its_text() -> None:
    with nothing_left(), pytest.raises(FilterRefused, match="syntax error"):
        instructions("udp prot 53")


def test_a_filter_for_another_link_type_is_refused_there_and_taken_where_it_belongs() -> None:
    assert "802.11 link-layer types supported only on 802.11" in str(result("wlan type data"))
    assert isinstance(result("wlan type data", link_type=WLAN), bytes)


def test_no_name_is_looked_up() -> None:
    assert result("host example.com") == "unknown host 'example.com'"


@pytest.mark.parametrize("in_child", [True, False])
@pytest.mark.parametrize("expression", ["ip6 protochain 6", "udp or ip protochain 17"])
def test_a_program_that_jumps_backwards_is_refused(expression: str, in_child: bool) -> None:
    assert str(result(expression, in_child=in_child)).startswith("its program jumps backwards")


def test_a_program_that_goes_in_a_circle_is_not_run() -> None:
    """libpcap's own bpf_validate takes it."""
    circle = struct.pack("=HBBi", BPF_JA, 0, 0, -1) + struct.pack("=HBBI", BPF_RET, 0, 0, 0)
    with pytest.raises(ValueError, match="no program"):
        _bpf.passes(circle, bytes(60))
    assert _bpf.passes(struct.pack("=HBBi", BPF_JA, 0, 0, 0) + struct.pack("=HBBI", BPF_RET, 0, 0, 1), bytes(60))


def test_the_child_can_do_nothing_but_compile() -> None:
    with at_work(lambda: result(SLOW)) as child:
        assert eventually(lambda: status_of(child).get("Seccomp") == "2")
        status = status_of(child)
        assert {int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert int(status["SigBlk"], 16) & 1 << signal.SIGTERM - 1
        links = {link.name: str(link.readlink()).partition(":")[0] for link in Path(f"/proc/{child}/fd").iterdir()}
        assert links == {"0": "/dev/null", "1": "/dev/null", "2": "/dev/null", "3": "pipe"}
        limits = Path(f"/proc/{child}/limits").read_text(encoding="ascii")
        assert limits.count("unlimited") < Path("/proc/self/limits").read_text(encoding="ascii").count("unlimited")
        os.kill(child, signal.SIGKILL)


def test_the_child_opens_no_file_but_what_names_services(tmp_path: Path) -> None:
    trace, program = tmp_path / "trace", "from rawtap import _bpf; _bpf.instructions('port domain', in_child=True)"
    command = ["strace", "-f", "-e", "trace=landlock_restrict_self,landlock_add_rule,openat", "-o", trace]
    subprocess.run([*command, sys.executable, "-c", program], check=True)
    before, _, after = trace.read_text(encoding="utf-8").partition("landlock_restrict_self")
    assert re.match(r"\(\d+, 0\) += 0", after)
    assert set(re.findall(r"allowed_access=(\w+)", before)) == {"LANDLOCK_ACCESS_FS_READ_FILE"}
    assert "/etc/services" in after


def test_a_child_that_is_killed_from_outside_is_told() -> None:
    with nothing_left():
        told: list[bytes | str] = []
        with at_work(lambda: told.append(result(SLOW))) as child:
            os.kill(child, signal.SIGKILL)
        assert told == ["its compiler crashed on this expression (SIGKILL); use a simpler one"]


_SLOW_PARENT = """
import sys
from rawtap import _bpf
print("ready", flush=True)
_bpf.instructions(sys.argv[1], seconds=600)
"""

# What a process may be in that a client started: without standard streams, with SIGCHLD ignored.
_ODD_PARENT = """
import os, signal, sys
from rawtap import _bpf
out = os.dup(1)
for fd in range(3):
    os.close(fd)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(3):
    os.write(out, b"%d " % len(_bpf.instructions("tcp[13] = 2")))
try:
    _bpf.instructions("tcp[13", in_child=True)
except _bpf.FilterRefused as error:
    os.write(out, str(error).encode())
"""


def test_the_child_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", _SLOW_PARENT, SLOW], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert eventually(lambda: len(children_of(parent.pid)) == 1)
        (child,) = children_of(parent.pid)
        parent.kill()
    assert eventually(lambda: not exists(child))


def test_a_parent_without_standard_streams_gets_its_programs_all_the_same() -> None:
    ran = subprocess.run([sys.executable, "-c", _ODD_PARENT], capture_output=True, text=True, check=True)
    assert ran.stdout == "88 88 88 can't parse filter expression: syntax error"
    assert ran.stderr == ""


def test_many_threads_compile_at_once() -> None:
    """Others are in the middle of malloc and of look-ups when the child is made: no lock of theirs may stop it."""

    def work(number: int) -> bytes | str:
        filters.checked(f"tcp port http or udp port {number}")
        return result(f"tcp port http or ip proto \\udp and tcp[{number % 20}] = 1")

    with nothing_left(), ThreadPoolExecutor(8) as pool:
        assert {type(each) for each in pool.map(work, range(200))} == {bytes}


BYTES = st.binary(min_size=1, max_size=60).map(lambda data: data.replace(b"\0", b"").decode("latin-1"))
HOT = """
and or not ( ) [ ] [0] [0:4] [12] & | + - * / % << >> = != < > <= >= ! 0 1 2 255 65536 0xffffffff 4294967296
ip ip6 tcp udp icmp ether arp vlan mpls pppoes pppoed geneve llc wlan type data mgt subtype link iso isis stp ppp slip
host net port portrange src dst proto protochain 6 17 80-90 1.2.3.4 10/8 ::1 2001:db8::/32 mask 255.0.0.0 gateway
02:00:5e:00:53:01 len less greater broadcast multicast inbound outbound ifindex tcpflags tcp-syn icmptype icmp-echo
lane oamf4 vpi vci lsp hfisu sio opc dpc sls on eth0 reason match action pass rset rnr 1 \\tcp \\ip http domain
"""
SPICE = HOT.split()
SENTENCES = st.lists(st.sampled_from(SPICE), min_size=1, max_size=60).map(" ".join)
ANY_LINK_TYPE = st.sampled_from([0, 1, 9, 11, 12, WLAN, 113, 117, 127, 140, 147, 276])


def compile_many(examples: int, expressions: st.SearchStrategy[str]) -> None:
    """Each is a program or an error, and not a crash; nothing is left."""

    @given(expressions, ANY_LINK_TYPE)
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def check(expression: str, link_type: int) -> None:
        found = result(expression, link_type=link_type, seconds=1)
        assert isinstance(found, bytes) or "crashed" not in found, found

    with nothing_left():
        check()


@pytest.mark.parametrize("expressions", [BYTES, SENTENCES], ids=["bytes", "sentences"])
def test_no_expression_crashes_or_leaks(expressions: st.SearchStrategy[str]) -> None:
    compile_many(100, expressions)


@pytest.mark.soak
@pytest.mark.parametrize("expressions", [BYTES, SENTENCES], ids=["bytes", "sentences"])
def test_of_a_thousand_expressions_none_crashes_or_leaks(expressions: st.SearchStrategy[str]) -> None:
    compile_many(1000, expressions)


def test_memory_does_not_grow_with_the_filters_that_were_compiled() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])

    def batch() -> None:
        for _ in range(100):
            result(LONG, in_child=True)
            result("port 1 or 2 or 3", in_child=False)
            result("port 1 or or", in_child=False)

    batch()
    before = resident()
    batch()
    assert resident() - before < 256  # pages: 1 MiB


TOKENS = st.sampled_from(SPICE) | st.text("abcdefx0123456789.:-_/\\%$ []()", min_size=1, max_size=12)


@given(st.lists(TOKENS, min_size=1, max_size=6).map(" ".join))
@example("host 1.2.3.4.5")
@example("host 1000-2000")
@example("host 1.")
@example("host face:1")
@example("host a:b")
@example("host \\host")
@example("host \\%")
@example("host tcp-foo")
@example("ether host 1-2")
@example("wlan type mgt or face")
@example("on eth0 or host dead.beef")
@settings(max_examples=300, deadline=None)
def test_a_filter_that_passes_has_no_word_that_libpcap_takes_for_a_host(expression: str) -> None:
    """Where it does it says "unknown host", because the child has no socket to ask for it."""
    try:
        filters.checked(expression)
    except BadFilter:
        return
    for link_type in (1, WLAN, 117):
        found = result(expression, in_child=True, link_type=link_type)
        assert isinstance(found, bytes) or not found.startswith(LOOKED_UP), found


def test_every_word_of_the_grammar_is_one_to_libpcap() -> None:
    for word in filters._GRAMMAR:
        assert "unknown host" not in _bpf.syntax_error(f"host {word}")
