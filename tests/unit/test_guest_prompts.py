"""What a prompt is, and what only looks like one."""

from __future__ import annotations

import pytest

from rawtap.guest.patterns import Pattern
from rawtap.guest.prompts import SURE, Prompts, asks_for_password, asks_to_log_in, is_like_a_prompt


def stands(tail: bytes, **named: str | Pattern) -> str | None:
    found = Prompts(named).standing(tail, len(tail))
    return found.name if found else None


@pytest.mark.parametrize("before", [b"", b"boot\n", b"boot\r\n", b"boot\r"])
def test_a_prompt_is_the_whole_of_the_last_line(before: bytes) -> None:
    found = Prompts({"prompt": "rvos>"}).standing(before + b"rvos> ", 100)
    assert found is not None
    assert (found.start, found.silence) == (94, SURE)


@pytest.mark.parametrize("tail", [b"type at rvos> please", b"rvos> ls", b"rvos> \r\nout", b"rvos>\r\n\r\nout", b""])
def test_a_line_with_more_than_a_prompt_is_none(tail: bytes) -> None:
    assert stands(tail, prompt="rvos>") is None


def test_a_prompt_without_a_blank_may_have_a_line_end_behind_it() -> None:
    assert stands(b"x\nready\r\n", prompt="ready") == "prompt"
    assert stands(b"x\n# \r\n", prompt="# ") is None


def test_a_prompt_behind_much_output_without_a_line_end_is_one_and_the_line_is_none() -> None:
    long = b"x" * 400
    assert stands(long + b"# ", prompt="# ") == "prompt"
    assert stands(long, prompt=Pattern("x+")) is None


def test_prompts_have_names_and_may_be_patterns() -> None:
    named = {"prompt": Pattern(r"root@\w+:[^ ]+ "), "loader": "=> ", "debugger": "(gdb) "}
    assert stands(b"root@vm:/tmp# ", **named) == "prompt"
    assert stands(b"=> ", **named) == "loader"
    assert stands(b"(gdb) ", **named) == "debugger"
    assert stands(b"root@vm /tmp# ", **named) is None


def test_what_differs_from_a_prompt_in_its_name_is_another() -> None:
    prompts = Prompts({"prompt": "root@vm:~# "})
    prompts.note(b"root@vm:~# ")
    assert prompts.standing(b"root@vm:/tmp# ", 14) is not None
    assert prompts.standing(b"root@other:/tmp# ", 17) is None
    assert prompts.standing(b"mail@vm:~# ", 11) is None


def test_the_less_speaks_for_a_prompt_the_longer_it_must_stand() -> None:
    prompts = Prompts({"prompt": "box:~# "})
    prompts.note(b"box:~# ")
    silences = [prompts.standing(tail, 9) for tail in (b"box:~# ", b"box:/tmp# ", b"hello box:~# ")]
    told = [each.silence for each in silences if each]
    assert len(told) == 3
    assert told == sorted(set(told))


@pytest.mark.parametrize("line", [b"debian login: ", b"login: ", b"host.example login:", b"Username: "])
def test_what_asks_for_a_user_is_known(line: bytes) -> None:
    assert asks_to_log_in(line)
    assert not is_like_a_prompt(line)


@pytest.mark.parametrize("line", [b"Last login: Mon", b"login", b"failed login: 3 of 5"])
def test_what_speaks_of_a_login_asks_for_none(line: bytes) -> None:
    assert not asks_to_log_in(line)


@pytest.mark.parametrize("line", [b"Password: ", b"root's password:", b"[sudo] password for you: ", b"New password: "])
def test_what_asks_for_a_password_is_known(line: bytes) -> None:
    assert asks_for_password(line)
