"""A guest is fuzzed by what it runs: what lies behind comparisons is found, and QEMU logs nothing afterwards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.ask.examine import fuzzing, guiding
from rawtap.ask.examine.course import Examination, examine
from rawtap.ask.examine.finding import Place
from rawtap.examine import mutations
from rawtap.examine.trial import Verdict
from rawtap.guest.patterns import compiled
from rawtap.lab.guests import BootRequest
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from support import PATIENCE, Account, Session, eventually_async
from test_broken_guests import tree_with
from test_coverage import writes
from test_examine import ADDRESS, HEALTHY, SOURCE, examined, free_memory_is_zero, stack, with_stack
from test_linux_guest import IMAGES

DEEP = 70
MOST_CASES = 25_000
_FEW = 5000  # calls of the kernel's to write: QEMU's log makes more of what a guest has not run since it was put back


async def silence(*_: Any) -> None:
    return None


def test_a_death_behind_four_comparisons_is_found_by_what_the_guest_runs_and_not_without(
    root: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte of a datagram's first four is looked at behind the one before it (`deep`, examined_guest.c). Both begin
    from the frames of one suite, which is less to try."""
    hunts: list[fuzzing.Hunt] = []

    class Counted(fuzzing.Hunt):
        async def go(self, seconds: float) -> None:  # noqa: ARG002 - cases are counted, not seconds
            hunts.append(self)
            most = MOST_CASES if self is hunts[0] else hunts[0].tried
            await self.learn()
            while not self.killers and self.tried < most:
                await self.round()

    async def both() -> tuple[Examination, Examination]:
        tree = tree_with(root, tmp_path, SOURCE)
        free_memory_is_zero(tree)
        settings = Settings(
            capture_dir=root.home / "captures", scratch_dir=root.home / "scratch", image_dirs=(IMAGES, root.home)
        )
        async with Lab(settings) as lab:
            request = BootRequest(project_root=Path(tree), network=True, services=False, timeout=PATIENCE)
            machine = (await lab.boot(request)).guest.machine
            for command, wanted in (
                ("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up", ()),
                (f"examined {DEEP}", (compiled("ready"),)),
            ):
                assert (await machine.send(command, wanted, PATIENCE)).matched
            guided = await examine(lab, "guest", "fuzz 1", Place(ADDRESS), silence)
            monkeypatch.setattr(guiding, "_MOST_SLOWER", 0)
            return guided, await examine(lab, "guest", "fuzz 1", Place(ADDRESS), silence)

    every = mutations.sources
    monkeypatch.setattr(mutations, "sources", lambda rules: [each for each in every(rules) if each.suite == "udp"])
    monkeypatch.setattr(fuzzing, "Hunt", Counted)
    guided, blind = anyio.run(both)
    (outcome,) = guided.outcomes
    assert outcome.verdict is Verdict.DIED, guided.told
    assert outcome.frames[-1].data[42:46] == b"RAW!"
    assert hunts[0].tried < MOST_CASES
    assert any(note.startswith("guided by what it ran: ") for note in guided.told), guided.told
    (outcome,) = blind.outcomes
    assert (outcome.verdict, hunts[1].tried >= hunts[0].tried) == (Verdict.KEPT, True), blind.told
    assert any("not guided by what it ran: watched, it takes " in note for note in blind.told), blind.told


def test_nothing_is_logged_behind_it_and_coverage_that_is_on_stays_as_it_is(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session) -> None:
        (row,) = (await session.call("qemu_status"))["guests"]
        async with stack(session, HEALTHY):
            assert "coverage is on" in (await session.call("qemu_debug", action="coverage"))["found"]
            notes = (await examined(session, "fuzz 1 1"))["notes"]
            assert any("not guided by what it ran: somebody has coverage on" in each for each in notes), notes
            told = await session.call("qemu_debug", action="coverage", at="off")
            assert "coverage is off: nothing is logged any more" in told["warnings"]
            notes = (await examined(session, "fuzz 1 1"))["notes"]
            assert any(each.startswith("guided by what it ran: ") for each in notes), notes
        await is_quiet(session, row["pid"])
        async with stack(session, HEALTHY):
            await is_cancelled(session)
        await is_quiet(session, row["pid"])

    with_stack(user, tmp_path, scenario, snapshots=True)


async def is_cancelled(session: Session) -> None:
    session.progress.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(examined, session, "fuzz 1 60"))
        assert await eventually_async(lambda: any("frames sent" in each for each in session.progress))
        group.cancel_scope.cancel()
    await session.until(lambda told: not told["snapshots"], "qemu_snapshot", action="list")


async def is_quiet(session: Session, pid: int) -> None:
    """QEMU drops what it has translated, and logs none of what it translates then."""
    await session.call("qemu_snapshot", action="save", tag="quiet")
    await session.call("qemu_snapshot", action="restore", tag="quiet")
    before = writes(pid)
    await session.typed("ls -l /bin /proc; cat /proc/meminfo")
    assert writes(pid) - before < _FEW
    await session.call("qemu_snapshot", action="delete", tag="quiet")
