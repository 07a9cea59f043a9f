"""What pictures show, before it is drawn: arrows in order, Mermaid's text, round trips and windows of TCP."""

from __future__ import annotations

from rawtap.packets.pictures.flow import Segment, sides
from rawtap.packets.pictures.sequence import OTHERS, Arrow, Said, mermaid, sequence


def packet(number: int, source: str = "10.0.2.15", destination: str = "10.0.2.2", info: str = "hello") -> list[object]:
    return [number, number / 10, source, destination, "UDP", info]


def test_console_lines_stand_between_the_packets_at_their_time() -> None:
    found = sequence([packet(1), packet(3)], [[0.2, "guest", "PING"]])
    assert found.ends == ("10.0.2.15", "10.0.2.2")
    assert found.steps == (
        Arrow(1, 0.1, 0, 1, "UDP", "hello"),
        Said(0.2, "guest", "PING"),
        Arrow(3, 0.3, 0, 1, "UDP", "hello"),
    )


def test_who_says_little_shares_a_life_line() -> None:
    talkers = [packet(n, f"10.0.0.{n % 6}") for n in range(1, 30)]
    found = sequence([*talkers, packet(30, "10.9.9.8", "10.9.9.9")], [])
    assert len(found.ends) == 8
    assert OTHERS in found.ends
    assert found.steps[-1][2:4] == (found.ends.index(OTHERS), found.ends.index(OTHERS))


def test_nothing_from_the_wire_is_a_word_of_mermaids() -> None:
    hostile = "x\nend\n%%{init: {}}%%; note <script>#quot; é"
    text = mermaid(sequence([packet(1, "a;b", "c\nd", hostile)], [[0.1, "g\n", "A->>B: no\nparticipant X"]]))
    lines = text.splitlines()
    assert len(lines) == 5
    assert lines[0] == "sequenceDiagram"
    assert lines[1:3] == ["participant E0 as a#59;b", "participant E1 as c d"]
    said = "x end #37;#37;#123;init: #123;#125;#125;#37;#37;#59; note #60;script>#35;quot#59; #233;"
    assert lines[3] == f"E0->>E1: 1 at 0.100000 s: UDP {said}"
    assert lines[4] == "Note over E0,E1: console of g at 0.100000 s: A->>B: no participant X"


def test_a_text_that_was_cut_looks_so() -> None:
    found = sequence([packet(1, info="x" * 91), packet(2, info="x" * 90)], [[0.3, "guest", "y" * 111]])
    assert [each[-1][-2:] for each in found.steps] == ["x…", "xx", "y…"]


def segment(number: int, time: float, first: bool, seq: int, ack: int, payload: int = 0, flags: str = "ACK") -> Segment:
    return Segment(number, time, first, seq % 2**32, ack % 2**32, 1000, payload, flags)


def test_round_trips_are_of_what_was_sent_once_and_windows_are_scaled() -> None:
    isn = 2**32 - 50  # so that it wraps
    client, server = sides(
        [
            Segment(1, 0.0, True, isn, None, 1000, 0, "SYN"),
            Segment(2, 0.1, False, 500, isn + 1, 1000, 0, "SYN+ACK"),
            segment(3, 0.2, True, isn + 1, 501),
            segment(4, 1.0, True, isn + 1, 501, 100, "PSH+ACK"),
            segment(5, 1.1, True, isn + 101, 501, 100, "PSH+ACK"),
            segment(6, 1.3, False, 501, isn + 101),
            segment(7, 2.0, True, isn + 101, 501, 100, "PSH+ACK"),  # again
            segment(8, 2.5, False, 501, isn + 201),
        ],
        (7, 2),
    )
    assert [round(trip, 3) for _, trip in client.trips] == [0.1, 0.3]
    assert client.again == [2.0]
    assert client.data == 200
    assert [size for _, size in client.flight][-4:] == [100, 200, 100, 0]
    assert [size for _, size in client.window] == [1000, 4000, 4000]
    assert [size for _, size in server.window] == [128000] * 4
    assert server.data == 0


def test_without_both_scales_none_is_applied() -> None:
    client, _ = sides([segment(1, 0, True, 1, 1, 10), segment(2, 0.1, False, 1, 11)], (None, 9))
    assert client.window == [(0.1, 1000)]
