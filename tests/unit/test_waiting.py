"""What is said of a wait: came true or not, and why, with what was lost."""

from __future__ import annotations

import pytest

from rawtap.ask.wait import Evidence, Wish, judge

PRESENT = Wish("icmp", count=2, timeout=3, absent=False, since="now")
ABSENT = Wish("icmp", count=1, timeout=3, absent=True, since="now")


def seen(
    matched: int,
    *,
    overwritten: int = 0,
    dropped: int = 0,
    ended: str | None = None,
    whole: bool = False,
    earlier: tuple[int, ...] = (),
) -> Evidence:
    return Evidence(matched, 9, overwritten, dropped, ended, whole, earlier)


@pytest.mark.parametrize(
    ("wish", "evidence", "satisfied", "reason"),
    [
        (PRESENT, seen(2), True, "2 of 9 packets match within 3 s"),
        (PRESENT, seen(1), False, "1 of 9 packets match within 3 s"),
        (PRESENT, seen(2, dropped=4), True, "2 of 9 packets match within 3 s; the kernel dropped 4 packets"),
        (
            PRESENT,
            seen(0, dropped=4, overwritten=5),
            False,
            "0 of 9 packets match within 3 s; the kernel dropped 4 packets and 5 packets overwritten unread: what was "
            "waited for may be among them",
        ),
        (PRESENT, seen(1, ended="max_bytes"), False, "1 of 9 packets match before the capture ended (max_bytes)"),
        (PRESENT, seen(2, ended="stopped", whole=True), True, "2 of 9 packets match in the capture"),
        (
            PRESENT,
            seen(0, earlier=(3, 4)),
            False,
            '0 of 9 packets match within 3 s; 2 matched before this call (3, 4): since="start" counts them',
        ),
        (
            ABSENT,
            seen(0, earlier=tuple(range(1, 101))),
            True,
            "0 of 9 packets match within 3 s; 100 or more matched before this call (1, 2, 3, 4, 5, ...): "
            'since="start" counts them',
        ),
        (ABSENT, seen(0), True, "0 of 9 packets match within 3 s"),
        (ABSENT, seen(1), False, "1 of 9 packets match: what should be absent came"),
        (
            ABSENT,
            seen(0, dropped=1),
            False,
            "0 of 9 packets match within 3 s, but the kernel dropped 1 packet: what should be absent may be among them",
        ),
        (
            ABSENT,
            seen(0, ended="stopped"),
            False,
            "0 of 9 packets match before the capture ended (stopped), and that was not the whole time",
        ),
        (ABSENT, seen(0, ended="stopped", whole=True), True, "0 of 9 packets match in the capture"),
    ],
)
def test_a_wait_says_whether_it_came_true_and_why(wish: Wish, evidence: Evidence, satisfied: bool, reason: str) -> None:
    assert judge(wish, evidence) == (satisfied, reason)
