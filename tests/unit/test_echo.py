"""What a console gives back of what was typed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.guest.echo import came_back, echo_in, echo_of, has_all, is_scrolled

modest = settings(max_examples=150, deadline=None, database=None)


@modest
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40), st.data())
def test_an_echo_is_found_however_the_console_wrapped_it(text: str, data: st.DataObject) -> None:
    typed = text.encode()
    wraps = data.draw(st.lists(st.sampled_from([b"", b"", b"\r\n", b"\n", b"\r", b"\x07"]), min_size=len(typed)))
    output = b"".join(wrap + bytes([byte]) for wrap, byte in zip(wraps, typed, strict=False))
    echo = echo_of(output + b"\r\nanswer\r\nrvos> ", typed)
    assert (echo.whole, echo.end) == (True, len(output))


@pytest.mark.parametrize(
    "output",
    [b"abc \rdef", b"abcd\bdef", b"abc\r\ndef", b"abc \r\bdef"[:4] + b"\rdef"],
    ids=["readline", "busybox", "a driver", "blank and two returns"],
)
def test_each_way_to_wrap_a_line_is_known(output: bytes) -> None:
    echo = echo_of(output + b"\r\n", b"abcdef")
    assert (echo.whole, echo.end) == (True, len(output))


def test_a_blank_that_was_typed_is_no_wrap() -> None:
    assert echo_of(b" \ra", b" a").whole
    assert echo_of(b"abc \r def", b"abc def").whole
    assert echo_of(b" \r \r \ra b", b"   a").whole
    assert echo_of(b" \r" * 300 + b"b", b" " * 300 + b"a").strange
    assert echo_of(b"a b \r\nout", b"a b ").end == 4
    assert echo_of(b"a\tb ^C\r\n", b"a\tb \x03").whole
    assert echo_of(b"a       b", b"a\tb").whole


@modest
@given(st.text(st.sampled_from("ab ."), min_size=2, max_size=20), st.data())
def test_an_echo_that_is_still_coming_is_neither_whole_nor_strange(text: str, data: st.DataObject) -> None:
    typed = text.encode()
    come = data.draw(st.integers(0, len(typed) - 1))
    echo = echo_of(typed[:come], typed)
    assert (echo.whole, echo.strange, echo.count) == (False, False, come)


def test_what_is_no_echo_is_strange() -> None:
    assert echo_of(b"answer", b"help").strange
    assert echo_of(b"hello", b"help").strange
    assert echo_of(b"", b"").whole


def test_how_much_came_back_is_counted_in_order() -> None:
    assert came_back(b"x" * 247 + b"\x07" * 9, b"x" * 480) == 247
    assert came_back(b"printv ethaddr", b"printenv ethaddr") == 14
    assert has_all(b"ls[  1.0] eth0: up\r\n -l", b"ls -l")
    assert not has_all(b"l -l", b"ls -l")


def test_a_line_that_is_scrolled_is_known_by_its_end() -> None:
    typed, prompt = b"echo " + b"word " * 30 + b"the end", b"root@vm:~# "
    assert is_scrolled(b"echo word word\r<ord word the end", typed, prompt)
    assert is_scrolled(b"echo word\r<ord word the    \b\b\b\b end", typed, prompt)
    assert is_scrolled(b"echo word\r" + prompt + b"word the end", typed, prompt)
    assert not is_scrolled(b"echo word word\r<ord word the", typed, prompt)
    assert not is_scrolled(b"echo word word the end", typed, prompt)
    assert not is_scrolled(b"\r<hello, the end", b"echo hello, the end", prompt)  # which fits on a line


@pytest.mark.parametrize("wrap", [b"\r\n", b"\n", b" \r"], ids=["both", "line feed", "readline"])
@pytest.mark.parametrize("lost", [(0, 5), (0, 14), (40, 54), (75, 80)], ids=str)
def test_a_line_that_goes_on_below_is_not_all_there_because_its_end_is(wrap: bytes, lost: tuple[int, int]) -> None:
    typed, prompt = b"echo " + b" ".join(b"word%d" % number for number in range(18)), b"iPXE> "
    got = typed[: lost[0]] + typed[lost[1] :]
    row = 80 - len(prompt)
    assert not echo_in(got[:row] + wrap + got[row:], typed, prompt).whole
    assert echo_in(typed[:row] + wrap + typed[row:], typed, prompt).whole
