"""What gdb writes is read, and what it may be asked is held to what only looks at things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawtap.debug import expressions
from rawtap.debug.records import Record, parse, quoted, rows_at, text_at, unquoted
from rawtap.debug.stops import Place, stop_of
from rawtap.errors import RequestInvalid
from rawtap.guest.patterns import Pattern, compiled

REGISTERS = ("a0", "sstatus")

LOOKS = [
    "total",
    "packet->bytes[8] & 0x0f",
    "*packet",
    "&packet->bytes[3]",
    "(a + b) * 2",
    "(struct packet *) 0x80001000",
    "((struct packet *)(p + 1))->length",
    "(unsigned char)(x)",
    "sizeof(struct packet)",
    "sizeof (packet)",
    "net::Stack::instance.frames[0]",
    "$pc + 4",
    "*(unsigned int *)$sp",
    "$a0 == 3 && !($sstatus & 1)",
    "c == 'a'",
    "bytes[0]@16",
    "a < 3",
    "a > (b)",
    "- -1",
    "x.0.1",
    "*(char(*)[10])x",
    "*(unsigned char (*)[4][10]) 0x80001000",
    "*(char (*)[10])(x + 1)",
    "sizeof(char (*)[10])",
]
DOES_MORE = [
    "",
    " ",
    "a" * 501,
    '$_shell("touch /tmp/x")',
    "$_shell",
    "$_gdb_setting_str",
    "$1",
    "$",
    "f(1)",
    "f (1)",
    "(f)(1)",
    "(*f)(1)",
    "a[0](1)",
    "f(*p)",
    "f(*)(1)",
    "(f(*))(1)",
    "(char(*)[f(1)])x",
    "(char(*)[1](2))(3)",
    "((f))(1)",
    "(a.f)(1)",
    "(f *)(x) = 1",
    "sizeof(x)(1)",
    "f<int>(1)",
    "a = 1",
    "a == b = 1",
    "a += 1",
    "a++",
    "--a",
    '"text"',
    'puts("x")',
    "'ab'",
    "'f.c'::x",
    "a, b",
    "a; b",
    "a ? b : c",
    "{int} 0x1000",
    "a\nshell id",
    "a\0",
    "a`id`",
    "a\\",
    "a:b",
    "#a",
    "@entry ! x ~ ` ",
    "(a",
    "a)",
    "a[1",
    "[a)",
    "é",
]


@pytest.mark.parametrize("text", LOOKS, ids=range(len(LOOKS)))
def test_what_looks_at_things_is_taken_as_it_is(text: str) -> None:
    assert expressions.expression(text, REGISTERS) == text


@pytest.mark.parametrize("text", DOES_MORE, ids=range(len(DOES_MORE)))
def test_what_does_more_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        expressions.expression(text, REGISTERS)


@given(st.text(alphabet="ab1$()[]{}<>*&-+=.,;:!'\"\\\n @/|^~%#?`", max_size=30))
def test_no_text_that_is_taken_calls_assigns_or_names_what_is_gdbs(text: str) -> None:
    try:
        taken = expressions.expression(text, REGISTERS)
    except RequestInvalid:
        return
    plain = taken.replace(" ", "")
    assert not any(each in plain for each in ("++", "--", '"', "\n", ";", ",", "{", "`", "?", "\\"))
    rest = plain
    for each in ("==", "<=", ">=", "!="):
        rest = rest.replace(each, "")
    assert "=" not in rest
    assert "$" not in plain.replace("$a0", "").replace("$pc", "").replace("$sp", "").replace("$fp", "")
    assert not any(f"{each}(" in plain for each in "ab1]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0x80000000", ("*0x80000000",)),
        ("net.c:120", ("--source", "net.c", "--line", "120")),
        ("src/net/net.c:7", ("--source", "src/net/net.c", "--line", "7")),
        ("send", ("--function", "send")),
        ("net::Stack::send", ("--function", "net::Stack::send")),
        ("<net::Stack as net::Poll>::poll", ("--function", "<net::Stack as net::Poll>::poll")),
        ("net::{impl#0}::poll", ("--function", "net::{impl#0}::poll")),
    ],
    ids=range(7),
)
def test_a_place_becomes_parameters(text: str, words: tuple[str, ...]) -> None:
    assert expressions.place(text) == words


@pytest.mark.parametrize(
    "text",
    ["", "-probe x", "*f()", "f if x", "f thread 1", "a b:3", '"a":3', "a:b:3", "f()", "f\nshell", "$pc", "0x", "a:-1"],
    ids=range(13),
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        expressions.place(text)


def test_a_pattern_has_the_characters_of_names_only() -> None:
    assert expressions.pattern("^Net_.*send$") == "^Net_.*send$"
    for text in ("", "-x", "a b", "a(", "a;", "a\n", "\\", '"'):
        with pytest.raises(RequestInvalid):
            expressions.pattern(text)


@pytest.mark.parametrize(
    ("text", "fits", "others"),
    [
        ("net_send", ["net_send", "my_net_sender", "NET_send"], ["net_recv"]),
        ("Net", ["Net_send"], ["net_send", "NET"]),
        ("^net::", ["net::Stack", "Net::poll"], ["x_net::y"]),
        ("^su|^ad", ["sum", "SUM", "Add"], ["insum"]),
        ("rx[a-c]$", ["rxa", "RXB", "rxc"], ["rxd", "rx"]),
        ("rx[^a-c]$", ["rxd", "RXD"], ["rxa", "RXA"]),
        ("rx[a-]$", ["rx-", "rxA"], ["rxb"]),
        ("v[[:digit:]]$", ["v1", "V2"], ["vd", "vD"]),
    ],
)
def test_a_pattern_without_capitals_finds_names_with_them(text: str, fits: list[str], others: list[str]) -> None:
    find = compiled(Pattern(expressions.pattern(text))).expression.search
    assert all(find(each.encode()) for each in fits), expressions.pattern(text)
    assert not any(find(each.encode()) for each in others), expressions.pattern(text)


def test_a_pattern_is_given_to_gdb_as_a_basic_one() -> None:
    assert expressions.basic("^a|[b|c]x|") == r"^a\|[b|c]x\|"


def test_a_record_is_read_with_its_tuples_and_lists() -> None:
    line = '7^done,stack=[frame={level="0",func="f"},frame={level="1"}],names=["a","","b\\"c"],empty={},none=[]'
    record = parse(line)
    assert record is not None
    assert (record.kind, record.word, record.token) == ("result", "done", 7)
    assert [text_at(each, "level") for each in rows_at(record.results, "stack")] == ["0", "1"]
    assert record.results["names"] == ["a", "", 'b"c']
    assert (record.results["empty"], record.results["none"]) == ({}, [])
    assert text_at(record.results, "stack", "level") == ""
    assert rows_at(record.results, "names") == []


def test_words_and_log_are_told_apart_from_records() -> None:
    assert parse('~"a\\tb\\n"') == Record("text", text="a\tb\n")
    assert parse('&"warning: x\\n"') == Record("log", text="warning: x\n")
    assert parse("(gdb) ") is None
    assert parse("Segmentation fault") is None
    notice = parse('=thread-created,id="1"')
    assert notice is not None
    assert (notice.kind, notice.word) == ("notify", "thread-created")


@pytest.mark.parametrize(
    "rest",
    ["a", "a=", "a=[", 'a=["x"', 'a={b="x"', 'a="x', 'a="x"y', "a=[x]", '="x"', 'a="x",', "a=" + "[" * 100],
    ids=range(11),
)
def test_a_record_without_an_end_is_an_error_and_no_endless_wait(rest: str) -> None:
    with pytest.raises(ValueError, match=r"no |nested|follows"):
        parse(f"1^done,{rest}")


@given(st.text(max_size=40))
def test_no_line_is_read_in_another_way_than_these(text: str) -> None:
    try:
        parse(f"1^done,{text}")
    except ValueError:
        return


@given(st.text(max_size=40).filter(str.isprintable))
def test_what_is_quoted_is_one_word_and_comes_back(text: str) -> None:
    told = quoted(text)
    assert "\n" not in told
    if told.startswith('"'):
        assert unquoted(told.encode().decode("latin-1")) == text or not text.isascii()
    else:
        assert told == text


def test_what_has_a_control_character_is_not_quoted() -> None:
    for text in ("a\nb", "a\0", "\x1b"):
        with pytest.raises(ValueError, match="a control character"):
            quoted(text)


def test_a_stop_says_why_and_where() -> None:
    frame = {"addr": "0x10", "func": "f", "file": "src/net.c", "line": "7", "args": [{"name": "a", "value": "1"}]}
    stop = stop_of({"reason": "breakpoint-hit", "bkptno": "3", "frame": frame, "thread-id": "2"})
    assert (str(stop), stop.arguments, stop.thread) == ("f (net.c:7): breakpoint 3", ("a=1",), "2")
    bare = stop_of({"reason": "signal-received", "signal-name": "SIGINT", "frame": {"addr": "0x10", "func": "??"}})
    assert (str(bare), bare.place) == ("0x10: an interrupt", Place("0x10"))
    values = {"old": "1", "new": "\x1b[31m"}
    watched = stop_of(
        {"reason": "watchpoint-trigger", "wpt": {"number": "2", "exp": "x"}, "value": values, "frame": frame}
    )
    assert watched.why == "watchpoint 2, x: was 1, is \\x1b[31m"
    assert stop_of({}).place == Place("")


def test_what_is_cut_of_a_stop_is_marked() -> None:
    arguments = [{"name": f"a{number}", "value": "1" * 300} for number in range(14)]
    stop = stop_of({"frame": {"addr": "0x10", "func": "f" * 130, "args": arguments}})
    assert stop.place.function == "f" * 120 + "..."
    assert (len(stop.arguments), stop.arguments[-1]) == (13, "... 2 more")
    assert stop.arguments[0] == f"a0={'1' * 200}..."
