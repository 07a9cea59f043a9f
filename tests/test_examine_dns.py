"""A guest's resolver is examined by its name server, which is our neighbour: Debian's C library, which is the control,
and one of the tests' own (resolver_guest.c), with a defect by number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.examine import catalogue
from support import PATIENCE, Account, Session, serving
from test_examine import ADDRESS, free_memory_is_zero, verdicts, with_stack
from test_linux_guest import IMAGES, PROMPT, linux_tree

SOURCE = Path(__file__).parent / "resolver_guest.c"
SERVER = "10.0.2.250"
HEALTHY = 0
GROUPS = 3  # each has a guest of its own: several processes share them

# By number: the rule that names it, its verdict, and the field that is wrong.
DEFECTS: dict[int, tuple[str, str, str]] = {
    1: ("dns.query_header", "violated", "Query.flags"),
    2: ("dns.question", "violated", "Query.class"),
    3: ("dns.recursion", "violated", "Query.flags"),
    4: ("dns.question", "violated", "Query.broken"),
    5: ("dns.id", "violated", "Query.id"),
    6: ("dns.id", "violated", "Query.id"),
    7: ("dns.port", "violated", "Query.port"),
    8: ("dns.retry", "silent", ""),
    9: ("dns.retry_wait", "violated", "frames"),
    10: ("dns.gives_up", "silent", ""),
    11: ("dns.other_id", "violated", "IP.dst"),
    12: ("dns.other_address", "violated", "IP.dst"),
    13: ("dns.other_port", "violated", "IP.dst"),
    14: ("dns.other_question", "violated", "IP.dst"),
    15: ("dns.no_response", "violated", "IP.dst"),
    16: ("dns.compression", "silent", ""),
    17: ("dns.letter_case", "silent", ""),
    18: ("dns.alias", "silent", ""),
    19: ("dns.other_record", "silent", ""),
    20: ("dns.ttl_zero", "silent", ""),
    21: ("dns.truncated", "silent", ""),
    22: ("dns.truncated_taken", "violated", "IP.dst"),
    23: ("dns.no_such_name", "violated", "Query.name"),
    24: ("dns.server_failure", "violated", "Query.name"),
    25: ("dns.pointers", "silent", ""),
    26: ("dns.labels", "silent", ""),
    27: ("dns.lengths", "silent", ""),
    28: ("dns.counts", "silent", ""),
    29: ("dns.cut", "silent", ""),
    30: ("dns.other_question", "violated", "IP.dst"),  # of another type
    31: ("dns.alias_loop", "silent", ""),
}
ASKS = "ping -4 -c 1 -W 1"


async def examined(session: Session, what: str) -> dict[str, Any]:
    return await session.call("qemu_examine", what=what, address=ADDRESS)


@asynccontextmanager
async def resolver(session: Session, number: int) -> AsyncIterator[None]:
    """The program with that defect; it goes on until it is given a line."""
    command = f"resolver {number} {SERVER}"
    ready = await session.call("qemu_send", command=command, wait_for="ready", timeout=PATIENCE)
    assert ready["matched"], ready
    yield
    ended = await session.call("qemu_send", command="\n", enter=False, wait_for=PROMPT, timeout=PATIENCE)
    assert ended["matched"], ended


@pytest.mark.parametrize("group", range(GROUPS))
def test_each_defect_of_a_resolver_is_named_by_its_rule(user: Account, tmp_path: Path, group: int) -> None:
    wrong: dict[int, Any] = {}

    async def scenario(session: Session) -> None:
        await session.typed(f"ip addr add {ADDRESS}/24 dev eth0")
        for number in sorted(DEFECTS)[group::GROUPS]:
            rule, verdict, field = DEFECTS[number]
            async with resolver(session, number):
                told = await examined(session, rule)
            (row,) = told["rules"]
            if (row["rule"], row["verdict"], row.get("field", "")) != (rule, verdict, field):
                wrong[number] = row

    with_stack(user, tmp_path, scenario, snapshots=True, source=SOURCE)
    assert wrong == {}


def test_every_rule_has_a_defect_that_it_names() -> None:
    assert {rule for rule, _, _ in DEFECTS.values()} == {rule.name for rule in catalogue.SUITES["dns"]}


def test_a_resolver_without_a_defect_keeps_every_rule(user: Account, tmp_path: Path) -> None:
    """Without a snapshot too: no rule leaves it in a state that spoils the next."""

    async def scenario(session: Session) -> None:
        await session.typed(f"ip addr add {ADDRESS}/24 dev eth0")
        async with resolver(session, HEALTHY):
            told = await examined(session, "dns")
        assert not told["snapshots"]
        assert told["rules"] == []
        assert told["suites"][0]["kept"] == len(catalogue.SUITES["dns"])

    with_stack(user, tmp_path, scenario, source=SOURCE)


def test_debians_c_library_keeps_every_rule_but_those_of_the_page(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES) as session:
            tree = linux_tree(user)
            free_memory_is_zero(tree)
            await session.call("qemu_boot", project_root=tree, network=True, services=False, timeout=PATIENCE)
            await session.typed(f"ip addr add {ADDRESS}/24 dev eth0; ip link set eth0 up")
            await says_what_is_missing(session)
            await asks_again_and_again(session, "n=0; while " + ASKS + " $((n += 1)).rawtap.test; [ $? -lt 128 ]")
            told = await examined(session, "dns")
            assert told["snapshots"]
            assert verdicts(told) == {"dns.no_response": "violated"}

    anyio.run(scenario)


async def says_what_is_missing(session: Session) -> None:
    (row,) = (await examined(session, "dns.alias"))["rules"]
    assert row["verdict"] == "cannot tell"
    assert f"no DNS query came to {SERVER} for 8 s: " in row["reason"]
    assert f"nameserver {SERVER} >/etc/resolv.conf; " in row["reason"]
    assert "nothing was sent there" not in row["reason"]
    await session.typed(f"echo nameserver {SERVER} >/etc/resolv.conf")
    # It asks, and nobody uses the answer; and it asks for one name alone.
    await asks_again_and_again(session, "while nslookup -type=a one.rawtap.test; true")
    for rule, reason in (("dns.alias", "nothing was sent there"), ("dns.retry", "it asked for no other name")):
        (row,) = (await examined(session, rule))["rules"]
        assert row["verdict"] == "cannot tell"
        assert reason in row["reason"]
    (row,) = (await examined(session, "dns.query_header"))["rules"]
    assert row["verdict"] == "kept"
    await session.typed("kill $!; killall nslookup")


async def asks_again_and_again(session: Session, condition: str) -> None:
    await session.typed(f"{condition}; do sleep 1; done >/dev/null 2>&1 &")
