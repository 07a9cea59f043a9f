"""Which QMP commands may be given."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from rawtap.errors import CommandRefused, RequestInvalid
from rawtap.guest.commands import check, check_arguments, is_allowed, is_query


@pytest.mark.parametrize("command", ["query-status", "query-cpus-fast", "qom-get", "stop", "cont", "system_reset"])
def test_what_looks_or_steers_is_allowed(command: str) -> None:
    check(command, open_monitor=False)


@pytest.mark.parametrize(
    "command",
    [
        *("human-monitor-command", "migrate", "migrate-set-parameters", "quit", "screendump", "netdev_add"),
        *("blockdev-add", "blockdev-mirror", "drive-backup", "chardev-add", "chardev-change", "object-add"),
        *("memsave", "pmemsave", "dump-guest-memory", "dump-skeys", "device_add", "add-fd", "getfd", "qom-set"),
        *("nbd-server-start", "change-vnc-password", "trace-event-set-state", "xen-save-devices-state", "set_link"),
        *("snapshot-save", "transaction", "block-commit", "watchdog-set-action", "x-query-jit", "query", "query-"),
        *("query-sev-attestation-report", "query-sev-launch-measure", "query-sgx", "Query-status", "queryXstatus"),
    ],
)
def test_everything_else_is_refused_unless_the_operator_opened_it(command: str) -> None:
    assert not is_allowed(command)
    with pytest.raises(CommandRefused, match="--open-monitor"):
        check(command, open_monitor=False)
    check(command, open_monitor=True)


@pytest.mark.parametrize("command", ["", "a b", "query-status\n", "{}", "x" * 101, "-x", "stop;quit", "größe"])
def test_what_is_no_name_is_no_command_even_then(command: str) -> None:
    for open_monitor in (False, True):
        with pytest.raises(RequestInvalid):
            check(command, open_monitor=open_monitor)


def test_a_refusal_names_what_does_it_instead() -> None:
    others = {"quit": "qemu_shutdown", "screendump": "qemu_screenshot", "system-reset": "system_reset"}
    for command, said in others.items():
        with pytest.raises(CommandRefused) as raised:
            check(command, open_monitor=False)
        assert said in raised.value.cure


def test_only_what_changes_nothing_may_be_asked_again_for_the_rest_of_its_answer() -> None:
    assert is_query("query-block")
    assert is_query("qom-list")
    assert not any(map(is_query, ("stop", "cont", "system_reset", "inject-nmi")))


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    "arguments",
    [{}, {"path": "/machine", "n": 10**40, "b": True, "x": None}, {"é": "€😀\0\n"}, {"a": "x" * 60000}, nested(99)],
)
def test_arguments_that_json_has_are_taken(arguments: dict[str, Any]) -> None:
    check_arguments(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"a": "\ud800"},
        {"\udc00": 1},
        {"a": ["\ufffe"]},
        {"a": "\ufdd0"},
        {"a": "\U0001ffff"},
        {"a": float("nan")},
        {"a": [float("-inf")]},
        {"a": "x" * 70000},
        {"a": [[]] * 600},
        nested(sys.getrecursionlimit() * 2),
    ],
    ids=lambda arguments: ascii(arguments)[:20] if not isinstance(next(iter(arguments.values())), dict) else "nested",
)
def test_arguments_that_qemus_parser_would_not_take_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid, match="QEMU could not read the arguments"):
        check_arguments(arguments)
