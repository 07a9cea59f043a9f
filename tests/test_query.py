"""Asking captures in SQL, from outside: a real server, its captures and files, and what must not be possible."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import lz4.frame
import pytest
from backports import zstd
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Raw
from scapy.utils import wrpcap

from rawtap.ask import query
from rawtap.errors import QueryError
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from support import Account, Session, Wire, children_of, eventually_async, has_child, new_children, serving
from unit.frames import back, out

FOLDER = "asked"


def asked(scenario: Callable[[Session], Awaitable[None]], account: Account, *options: str | Path) -> None:
    """Play a scenario with a client of a server of that account's."""

    async def whole() -> None:
        async with serving(account, *options) as session:
            await scenario(session)

    anyio.run(whole)


def put(account: Account, name: str, frames: list[object]) -> Path:
    """A capture file in a folder that the account's server may read."""
    folder = account.home / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / name
    wrpcap(str(path), frames)
    shutil.chown(path, account.uid, account.gid)
    return path


def test_a_running_capture_is_asked_up_to_this_moment_beside_what_the_guest_printed(each_way: Account) -> None:
    async def scenario(session: Session) -> None:
        await session.boot(network="user")
        await session.call("qemu_pcap_start")
        pinged = await session.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")
        assert "is alive" in pinged["output"]
        found = await session.call(
            "qemu_pcap_query",
            sql="SELECT number, icmp_type, info FROM packets WHERE protocol = 'ICMP' AND source = '10.0.2.2'",
        )
        ((number, kind, info),) = found["rows"]
        assert (found["columns"], found["more"], kind) == (["number", "icmp_type", "info"], False, 0)
        assert info.startswith("echo reply")
        page = await session.call("qemu_pcap_read", first=number, limit=1)
        assert page["packets"][0]["summary"] == info
        said = await session.call(
            "qemu_pcap_query",
            sql="SELECT c.guest, c.text, p.time < c.time FROM packets p, console c "
            "WHERE p.info LIKE 'echo reply%' AND c.text LIKE '%is alive%'",
        )
        ((guest, text, before),) = said["rows"]
        assert (guest, before) == ("guest", True)
        assert "host 10.0.2.2 is alive" in text
        events = await session.call("qemu_pcap_query", sql="SELECT DISTINCT kind FROM events WHERE source = 'event'")
        assert {"guest_started", "capture_started"} <= {kind for (kind,) in events["rows"]}
        # What came since is there as well, and no process is left of a question.
        before_count = (await session.call("qemu_pcap_query", sql="SELECT count(*) FROM packets"))["rows"][0][0]
        await session.ping()
        after_count = (await session.call("qemu_pcap_query", sql="SELECT count(*) FROM packets"))["rows"][0][0]
        assert after_count > before_count

    asked(scenario, each_way)


def test_all_files_of_a_ring_are_one_table(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        started = await session.call("qemu_pcap_start", interface=wire.near, max_bytes=100_000, files=3)
        wire.send(250, 1400)
        row = await session.call("qemu_pcap_stop", capture=started["capture"])
        found = await session.call("qemu_pcap_query", sql="SELECT count(*), min(number), max(number) FROM packets")
        ((count, first, last),) = found["rows"]
        overwritten = row["packets_overwritten"]
        assert (count, first, last) == (row["packets"], overwritten + 1, overwritten + row["packets"])
        told = f"{started['capture']}: {overwritten} packets of the capture were overwritten by the ring"
        assert found["notes"] == [told]

    asked(scenario, user, "--allow-interface", wire.near)


def test_findings_names_and_messages_are_tables(user: Account) -> None:
    frames = [
        out(UDP(sport=4000, dport=53) / DNS(id=7, qd=DNSQR(qname="one.example"))),
        back(UDP(sport=53, dport=4000) / DNS(id=7, qr=1, rcode=3, qd=DNSQR(qname="one.example"))),
        out(TCP(sport=5000, dport=80, flags="PA") / Raw(b"GET /index.html HTTP/1.1\r\nHost: www.example\r\n\r\n")),
        back(TCP(sport=80, dport=5000, flags="PA") / Raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n")),
        out(ICMP(id=1, seq=1) / Raw(b"x"), chksum=0x1234),
    ]
    for at, frame in enumerate(frames):
        frame.time = 1_700_000_000 + at
    path = put(user, "mixed.pcap", frames)

    async def scenario(session: Session) -> None:
        names = await session.call(
            "qemu_pcap_query",
            path=str(path),
            sql="SELECT number, name, type, rcode, question, delay FROM dns ORDER BY number",
        )
        assert names["rows"] == [[1, "one.example", "A", None, None, None], [2, "one.example", "A", "NXDOMAIN", 1, 1.0]]
        web = await session.call(
            "qemu_pcap_query",
            path=str(path),
            sql="SELECT number, stream, method, target, host, status, reason, content_length FROM http ORDER BY number",
        )
        assert web["rows"] == [
            [3, 1, "GET", "/index.html", "www.example", None, None, None],
            [4, 1, None, None, None, 404, "Not Found", 3],
        ]
        wrong = await session.call(
            "qemu_pcap_query",
            path=str(path),
            sql="SELECT what, info FROM findings f JOIN packets p ON p.number = f.packets[1] WHERE what LIKE 'ip%'",
        )
        told = await session.call("qemu_pcap_explain", path=str(path))
        assert [row[0] for row in wrong["rows"]] == [
            each["what"] for each in told["findings"] if each["what"].startswith("ip")
        ]
        assert "bad IPv4 checksum 0x1234" in wrong["rows"][0][1]

    asked(scenario, user, "--read-dir", path.parent)


def test_text_that_must_be_escaped_is_told_as_any_other(user: Account) -> None:
    path = put(
        user, "odd.pcap", [out(TCP(dport=80, flags="PA") / Raw(b"GET /\xe2\x80\xaex HTTP/1.1\r\nHost: x\r\n\r\n"))]
    )

    async def scenario(session: Session) -> None:
        for sql in (
            "SELECT info FROM packets",
            "SELECT info FROM packets WHERE info LIKE 'GET%'",
            "SELECT target FROM http",
        ):
            found = await session.call("qemu_pcap_query", path=str(path), sql=sql)
            assert "\\u202ex" in found["rows"][0][0]

    asked(scenario, user, "--read-dir", path.parent)


def test_two_captures_are_compared_by_their_files(user: Account) -> None:
    before = put(user, "before.pcap", [out(ICMP()), back(ICMP(type=0))])
    after = put(user, "after.pcap", [out(ICMP()), out(UDP(sport=1, dport=9))])

    async def scenario(session: Session) -> None:
        found = await session.call(
            "qemu_pcap_query",
            paths=[str(before), str(after)],
            sql="SELECT file, protocol, packets FROM protocols ORDER BY ALL",
        )
        assert found["rows"] == [["after.pcap", "ICMP", 1], ["after.pcap", "UDP", 1], ["before.pcap", "ICMP", 2]]

    asked(scenario, user, "--read-dir", before.parent)


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, lz4.frame.compress])
def test_a_compressed_capture_is_asked_as_any_other(user: Account, compress: Callable[[bytes], bytes]) -> None:
    path = put(user, "packed.pcap", [out(ICMP()), out(UDP(sport=1, dport=53) / DNS(qd=DNSQR(qname="a.example")))])
    path.write_bytes(compress(path.read_bytes()))

    async def scenario(session: Session) -> None:
        found = await session.call("qemu_pcap_query", path=str(path), sql="SELECT number, info FROM packets")
        assert [(number, bool(info)) for number, info in found["rows"]] == [(1, True), (2, True)]
        found = await session.call("qemu_pcap_query", path=str(path), sql="SELECT name FROM dns")
        assert found["rows"] == [["a.example"]]
        assert "notes" not in found

    asked(scenario, user, "--read-dir", path.parent)


def test_what_is_no_capture_is_told_as_such(user: Account) -> None:
    path = put(user, "no.pcap", [out(ICMP())])
    path.write_bytes(b"no capture at all, really not one")

    async def scenario(session: Session) -> None:
        error = await session.refused("qemu_pcap_query", path=str(path), sql="SELECT 1")
        assert (error.code, "unknown file format" in str(error)) == ("capture.unreadable", True)
        for wanted in ({"stream": 0}, {"packet": 1}):
            error = await session.refused("qemu_pcap_follow", path=str(path), **wanted)
            assert (error.code, "unknown file format" in str(error)) == ("capture.unreadable", True)

    asked(scenario, user, "--read-dir", path.parent)


def test_an_answer_says_when_it_is_not_all(user: Account) -> None:
    path = put(user, "many.pcap", [out(ICMP(seq=each) / Raw(b"y" * 600)) for each in range(300)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])

    async def scenario(session: Session) -> None:
        found = await session.call("qemu_pcap_query", path=str(path), sql="SELECT number FROM packets", limit=5)
        assert (found["rows"], found["more"]) == ([[1], [2], [3], [4], [5]], True)
        wide = await session.call("qemu_pcap_query", path=str(path), sql="SELECT frame FROM frames", limit=100)
        assert wide["more"]
        assert 0 < len(wide["rows"]) < 300
        assert any("were cut" in note for note in wide["notes"])
        counted = await session.call("qemu_pcap_query", path=str(path), sql="SELECT count(*) FROM packets")
        assert counted["rows"] == [[299]]
        assert counted["notes"] == ["the file ends in the middle of packet 300".replace("the file", path.name)]

    asked(scenario, user, "--read-dir", path.parent)


WRONG = [
    ("SELECT nothing FROM packets", "destination_port"),
    ("SELECT * FROM packet", "conversations"),
    ("SELEC 1", 'syntax error at or near "SELEC", at character 1'),
    ("SELECT 1; SELECT 2", "2 statements; one is taken"),
    ("", "0 statements; one is taken"),
    ("SELECT ?", "no values"),
    ("SELECT number + source FROM packets", "No function matches"),
]


def test_what_is_wrong_is_told_with_what_there_is(user: Account) -> None:
    path = put(user, "one.pcap", [out(ICMP())])

    async def scenario(session: Session) -> None:
        for sql, said in WRONG:
            error = await session.refused("qemu_pcap_query", path=str(path), sql=sql)
            assert error.code == "query.invalid", sql
            assert said in str(error)
            assert "Tables: packets, frames, streams," in str(error)
            assert "EXPLAIN" not in str(error)

    asked(scenario, user, "--read-dir", path.parent)


# What a question must not be able to do: each is refused, and touches nothing.
HOSTILE = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM query('COPY packets TO ''{new}''')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM read_csv('https://192.0.2.1/x')",
    "COPY packets TO '{new}'",
    "COPY (SELECT 1) TO '{new}' (FORMAT parquet)",
    "EXPORT DATABASE '{new}'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{new}' AS other",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{secret}'",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE TABLE t AS SELECT * FROM packets",
    "CREATE MACRO m(a) AS a",
    "INSERT INTO dns (number) VALUES (1)",
    "UPDATE dns SET number = 1",
    "DELETE FROM dns",
    "DROP VIEW packets",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "RESET memory_limit",
    "SET VARIABLE x = 1",
    "CALL enable_logging()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT 1; COPY (SELECT 1) TO '{new}'",
    "SELECT getenv('HOME')",
    "SELECT repeat('x', 10000000000)",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_extensions()",
    "WITH x AS (DELETE FROM dns RETURNING *) SELECT * FROM x",
    "WITH x AS (COPY packets TO '{new}') SELECT 1",
    "SELECT * FROM (WITH x AS (INSERT INTO dns (number) VALUES (1) RETURNING *) SELECT * FROM x)",
    "SELECT * FROM packets INTO OUTFILE '{new}'",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
]


def test_a_hostile_question_is_refused_and_touches_nothing(user: Account) -> None:
    path = put(user, "one.pcap", [out(ICMP())])
    secret = user.home / "secret.csv"
    secret.write_text("password,hunter2\n")
    shutil.chown(secret, user.uid, user.gid)
    shutil.chown(user.home, user.uid, user.gid)
    new = user.home / "new"

    def there() -> list[Path]:
        """All but what the server's libraries keep for themselves."""
        found = user.home.rglob("*")
        return sorted(each for each in found if not each.relative_to(user.home).parts[0].startswith("."))

    before = there()

    async def scenario(session: Session) -> None:
        for hostile in HOSTILE:
            sql = hostile.format(secret=secret, new=new, folder=user.home)
            error = await session.refused("qemu_pcap_query", path=str(path), sql=sql)
            assert error.code in {"query.invalid", "query.failed"}, sql
            assert "hunter2" not in str(error)
        found = await session.call("qemu_pcap_query", path=str(path), sql="SELECT count(*) FROM packets")
        assert found["rows"] == [[1]]
        assert await eventually_async(lambda: not has_child(session.pid, "engine"))

    asked(scenario, user, "--read-dir", path.parent)
    assert there() == before


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t",
        "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000) c WHERE a.range + b.range = c.range * 7",
        "SELECT sum(length(repeat('x', 1000000000 + range::INTEGER))) FROM range(100)",
        "SELECT list(repeat('x', 1000000)) FROM range(1000000)",
        "SELECT max(regexp_matches(repeat('a', 100000) || range, '(a*)*b')) FROM range(1000000)",
    ],
)
def test_a_question_without_an_end_is_ended_and_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sql: str
) -> None:
    monkeypatch.setattr(query, "SECONDS", 1.0)
    monkeypatch.setattr(query, "MEMORY_MIB", 1024)
    path = tmp_path / "one.pcap"
    wrpcap(str(path), [out(ICMP())])
    known = children_of(os.getpid())

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            with pytest.raises(QueryError) as caught:
                await query.query(lab, query.Question(sql, 10, paths=(path,)))
            assert caught.value.code in {"query.limit", "query.failed"}
            monkeypatch.undo()
            done = await query.query(lab, query.Question("SELECT count(*) FROM packets", 10, paths=(path,)))
            assert done.rows == [[1]]
            assert not new_children(known)

    anyio.run(scenario)


def test_the_process_that_answers_opens_nothing_but_its_captures(tmp_path: Path) -> None:
    """Whatever DuckDB's own settings are worth: the kernel refuses."""
    path = tmp_path / "one.pcap"
    wrpcap(str(path), [out(ICMP())])
    program = (
        "import os, sys; from rawtap.packets.sql import engine; engine._bound(2048, [int(sys.argv[1])]);"
        "print(len(open(f'/proc/self/fd/{sys.argv[1]}', 'rb').read()));"
        "os.open(sys.argv[2], os.O_RDONLY)"
    )
    with path.open("rb") as file:
        command = ["setpriv", "--no-new-privs", sys.executable, "-I", "-c", program, str(file.fileno()), __file__]
        done = subprocess.run(command, pass_fds=[file.fileno()], capture_output=True, text=True, check=False)
    assert done.stdout == f"{path.stat().st_size}\n"
    assert "PermissionError: [Errno 13]" in done.stderr
