"""Names of keys, and text as keys."""

from __future__ import annotations

import json
import string
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawtap.errors import RequestInvalid
from rawtap.guest.keys import ALIASES, KNOWN, combination, pressed, typed
from rawtap.guest.steps import Step, still_held

TYPABLE = string.digits + string.ascii_letters + string.punctuation + " \t\n"


def ups_and_downs(steps: list[Step]) -> list[str]:
    return [("+" if event["data"]["down"] else "-") + event["data"]["key"]["data"] for s in steps for event in s.events]


def test_every_name_is_one_that_qemu_has() -> None:
    """By QEMU's own schema; a machine without a processor tells it."""
    asked = '{"execute": "qmp_capabilities"} {"execute": "query-qmp-schema"}'
    command = ["qemu-system-riscv64", "-machine", "none", "-display", "none", "-qmp", "stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        print(asked, file=qemu.stdin, flush=True)
        schema = next(said for line in qemu.stdout if isinstance(said := json.loads(line).get("return"), list))
        qemu.communicate('{"execute": "quit"}')  # only now: a QEMU that ends does not wait for its reader
    assert qemu.returncode == 0
    enums = [set(each["values"]) for each in schema if each["meta-type"] == "enum"]
    (names,) = [each for each in enums if "grave_accent" in each]
    assert names >= KNOWN
    assert set(ALIASES.values()) <= KNOWN
    assert not set(ALIASES) & KNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ctrl-alt-delete", ("ctrl", "alt", "delete")),
        ("Control-ALT-Del", ("ctrl", "alt", "delete")),
        ("ret", ("ret",)),
        ("Enter", ("ret",)),
        ("shift-/", ("shift", "slash")),
        ("ctrl-minus", ("ctrl", "minus")),
        ("7", ("7",)),
        ("A", ("a",)),
        ("a-b-c-d-e", ("a", "b", "c", "d", "e")),
    ],
)
def test_keys_are_named_as_people_name_them(text: str, expected: tuple[str, ...]) -> None:
    assert combination(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ctrl-delte", "delete"),
        ("bakspace", "backspace"),
        ("ctrl--", "ctrl-minus"),
        ("", "minus"),
        ("ctrl-+", "shift-equal"),
        ("a-a", "twice"),
        ("enter-ret", "twice"),
        ("a-b-c-d-e-f", "6 keys"),
        ("ctrl+c", "like ctrl-alt-delete"),
        ("f13", "f1"),
    ],
)
def test_what_names_no_keys_is_refused_with_what_would(text: str, said: str) -> None:
    with pytest.raises(RequestInvalid, match=r"request\.invalid") as raised:
        combination(text)
    assert said in str(raised.value)


def test_three_names_at_most_are_like_one_that_no_key_has() -> None:
    with pytest.raises(RequestInvalid, match=r"like it: [^,]+, [^,]+, [^,]+\)"):
        combination("f1x")


def test_keys_come_up_in_the_reverse_order_after_the_hold() -> None:
    steps = pressed(("ctrl", "alt", "delete"), 0.5)
    assert ups_and_downs(steps) == ["+ctrl", "+alt", "+delete", "-delete", "-alt", "-ctrl"]
    assert [each.pause for each in steps[:5]] == [0, 0, 0.5, 0, 0]


def test_text_is_typed_with_shift_where_a_us_keyboard_needs_it() -> None:
    assert ups_and_downs(typed("a A\n")) == ["+a", "-a", "+spc", "-spc", "+shift", "+a", "-a", "-shift", "+ret", "-ret"]
    assert ups_and_downs(typed('"')) == ["+shift", "+apostrophe", "-apostrophe", "-shift"]
    assert ups_and_downs(typed("@_")) == ["+shift", "+2", "-2", "-shift", "+shift", "+minus", "-minus", "-shift"]


@given(st.text(TYPABLE))
def test_whatever_is_typed_nothing_stays_pressed_and_the_guest_has_time(text: str) -> None:
    steps = typed(text)
    assert still_held(steps) == []
    assert sum(each.pause for each in steps) == pytest.approx(0.04 * len(text))


@given(st.text(TYPABLE, min_size=1), st.data())
def test_wherever_typing_ends_all_that_is_pressed_is_let_go_of(text: str, data: st.DataObject) -> None:
    steps = typed(text)
    done = steps[: data.draw(st.integers(0, len(steps)))]
    assert still_held([*done, Step("let go", tuple(still_held(done)))]) == []


def test_the_newest_key_is_let_go_of_first() -> None:
    held = still_held(pressed(("ctrl", "alt", "delete"), 0)[:3])
    assert [each["data"]["key"]["data"] for each in held] == ["delete", "alt", "ctrl"]
    assert not any(each["data"]["down"] for each in held)


def test_all_characters_without_a_key_are_named_once() -> None:
    with pytest.raises(RequestInvalid) as raised:
        typed("naïve ï\r é\0")
    assert "('ï' (U+00EF), '\\r' (U+000D), 'é' (U+00E9), '\\x00' (U+0000))" in str(raised.value)


def test_of_many_such_characters_ten_are_named() -> None:
    with pytest.raises(RequestInvalid, match="and 40 more"):
        typed("".join(map(chr, range(0x4E00, 0x4E32))))
