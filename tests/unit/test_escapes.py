"""Control sequences are taken out of a console's stream as it comes, and hide nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.guest.escapes import Plain

modest = settings(max_examples=150, deadline=None, database=None)
SEQUENCES = [
    b"\x1b[01;32m",
    b"\x1b[?2004h",
    b"\x1b[6n",
    b"\x1b]0;title\x07",
    b"\x1bP1$r\x1b\\",
    b"\x1b(B",
    b"\x1b7",
    b"\x1b[K",
]

MOVES = [b"\x1b[3;1H", b"\x1b[H", b"\x1b[5d", b"\x1b[2E", b"\x1b[3;5H", b"\x1b[3;6H"]


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_sequence_is_taken_out_however_it_is_cut_in_pieces(sequence: bytes) -> None:
    for cut in range(len(sequence) + 1):
        plain = Plain()
        assert plain.feed(b"a" + sequence[:cut]) + plain.feed(sequence[cut:] + b"b") == b"ab"
        assert (plain.given, plain.marked_at) == (2, 1)


@modest
@given(st.lists(st.sampled_from([*SEQUENCES, *MOVES, b"text", b"\r", b"\n", b"# "]), max_size=20), st.data())
def test_whatever_is_cut_where_the_text_is_the_same(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    whole = Plain().feed(stream)
    plain, got = Plain(), b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got, stream = got + plain.feed(stream[:size]), stream[size:]
    assert got == whole
    assert b"\x1b" not in whole


def test_a_screen_of_a_firmwares_has_the_same_text_wherever_it_is_cut() -> None:
    """Two reads at every place, and each byte alone: rows of 80 columns, a cursor that is put, a menu that is wiped."""
    words = b" ".join(b"word%d" % number for number in range(30))
    rows = b"\r\n".join(words[at : at + 80] for at in range(0, len(words), 80))
    stream = b"\x1b[2J\x1b[1;1HSeaBIOS\r\n\n\x1b[0;1miPXE\x1b[0m> echo " + rows + b"\r\n" + rows
    stream += b"\x1b[24;1H\x1b[KPress Ctrl-B...\r               \r\n\x1b]0;t\x1b\\\niPXE> \x1b[6n"
    whole = Plain().feed(stream)
    assert whole.count(rows) == 2
    for cut in range(len(stream) + 1):
        plain = Plain()
        assert plain.feed(stream[:cut]) + plain.feed(stream[cut:]) == whole
    plain = Plain()
    assert b"".join(plain.feed(bytes([byte])) for byte in stream) == whole


@modest
@given(st.binary(max_size=200))
def test_no_stream_of_bytes_leaves_an_escape_or_breaks_it(raw: bytes) -> None:
    plain = Plain()
    text = b"".join(plain.feed(bytes([byte])) for byte in raw)
    assert b"\x1b" not in text
    assert len(text) == plain.given


@pytest.mark.parametrize("opening", [b"\x1b]0;", b"\x1bP", b"\x1b_"])
def test_a_string_that_never_ends_hides_no_line(opening: bytes) -> None:
    assert b"panic: real\n" in Plain().feed(opening + b"x\r\npanic: real\r\n").replace(b"\r", b"")
    plain = Plain()
    got = b"".join(plain.feed(b"y" * 1000) for _ in range(1)) + plain.feed(opening) + plain.feed(b"z" * 5000)
    assert got.endswith(b"z" * 5000)


def test_a_cursor_that_is_put_on_another_line_begins_one() -> None:
    assert Plain().feed(b"GNU GRUB\x1b[3;1Hgrub> ") == b"GNU GRUB\ngrub> "
    assert Plain().feed(b"\x1b[H\x1b[Jlogin: ") == b"login: "


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        # SeaBIOS, under PXELINUX: to the last letter, and behind it.
        (b"x\r\nCopyright (C) 19\x1b[25;16H\x1b[25;17H94-2015", b"x\r\nCopyright (C) 1994-2015"),
        (b"Anvin et al\r\n\x1b[01;01H\x1bc\x1b[2Jbo\x1b[01;02H\x1b[01;03Hot: ", b"Anvin et al\r\nboot: "),
        # UEFI's shell gives back what is typed.
        (b"Shell> \x1b[12;08Hl\x1b[12;09Hs\x1b[12;09H\x1b[13;01Hfs0", b"Shell> ls\nfs0"),
        # To the same column of another line, and elsewhere on this one.
        (b"\x1b[3;1Habc\x1b[4;4Hdef", b"abc\ndef"),
        (b"abc\x1b[3;8Hdef\x1b[3;2Hg", b"abc\ndef\ng"),
        # A line that scrolled up since, a letter that was taken back, and one of several bytes.
        (b"\x1b[25;1Ha\r\nbc\x1b[25;3Hd", b"a\r\nbcd"),
        (b"abc\x08 \x08\x1b[1;3Hd", b"abc\x08 \x08d"),
        ("\u00e4b\x1b[1;3Hd".encode(), "\u00e4bd".encode()),
    ],
)
def test_a_cursor_that_is_put_where_it_is_begins_none(stream: bytes, text: bytes) -> None:
    assert Plain().feed(stream) == text
    plain = Plain()
    assert b"".join(plain.feed(bytes([byte])) for byte in stream) == text


def test_a_carriage_return_at_the_start_of_a_line_is_no_text() -> None:
    plain = Plain()
    assert (
        plain.feed(b"\x1b[?2004l\rout\n\rnext\n") + plain.feed(b"\rlast\r\n50%\r60%") == b"out\nnext\nlast\r\n50%\r60%"
    )


def test_a_sign_is_kept_apart_with_its_place_and_its_echo_is_text() -> None:
    plain = Plain()
    echo = b"printf '\\033]rawtap;a1\\007'\r\n"
    assert plain.feed(echo + b"\x1b]rawtap;a1\x07out\x1b]rawtap;a1;0\x07") == echo + b"out"
    assert [(each.text, each.at) for each in plain.signs] == [("a1", len(echo)), ("a1;0", len(echo) + 3)]
    assert plain.marked_at == -1
