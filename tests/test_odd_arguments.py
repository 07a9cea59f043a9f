"""Every argument of every tool in values that nobody means: each call is answered, and the server goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from support import PATIENCE, Account, Wire
from test_endings import RawClient, raw_client

MOST = 40_000  # characters of an answer, its text and its structure
LONG = 300_000
DEEP = "[" * 150 + "]" * 150
# As JSON, or what some take for it; a text that the model of a tool's arguments would take for a number as well.
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e308", "-1", "1e999", str(2**63), str(2**64), "9" * 400, "-0.0", '"nan"',
           '"inf"', '"1e9999"', "5e-324"]  # fmt: skip
ODD = ("x" * LONG, "\0", "a\nb", "../" * 900, "%n%s", "\u202e\u0007", "a,b=c", "\u00e9" * 999)
TEXTS = [*map(json.dumps, ODD), '"\\ud800"', "null", "{}", "[]", DEEP]
THINGS = [
    f'{{"{"k" * LONG}": 1}}',
    '{"": {}}',
    '{"a": NaN}',
    DEEP,
    '["\\ud800"]',
    json.dumps(["x" * LONG]),
    "[[1e999]]",
]
ERROR = re.compile(r"[a-z]+\.[a-z_]+: ")


def values_for(schema: dict[str, Any]) -> list[str]:
    """Values for a parameter: odd ones of each kind that it may have, and some that it may not."""
    kinds = {schema.get("type"), *(each.get("type") for each in schema.get("anyOf", ()))}
    found = ["NaN", '"\\u0000"', DEEP]
    if kinds & {"integer", "number"}:
        found += NUMBERS
    if "string" in kinds or "enum" in schema or "const" in schema:
        found += TEXTS
    if kinds & {"object", "array"}:
        found += THINGS
    return found


def calls(tools: list[dict[str, Any]], known: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A tool, and its arguments as JSON, one of which is odd; what else it needs is `known`."""
    for each in sorted(tools, key=lambda tool: bool(tool["name"] == "qemu_shutdown")):  # the guest's end comes last
        schema = each["inputSchema"]
        needed = {name: known.get(f"{each['name']} {name}") or known[name] for name in schema.get("required", ())}
        if "timeout" in schema["properties"]:
            needed["timeout"] = "0.01"
        for name, parameter in schema["properties"].items():
            for value in values_for(parameter):
                yield each["name"], ", ".join(f'"{key}": {said}' for key, said in (needed | {name: value}).items())


def answer_to(client: RawClient, line: str) -> dict[str, Any]:
    """To a request that is written by hand."""
    assert client.process.stdin is not None
    client.process.stdin.write(line.encode() + b"\n")
    client.process.stdin.flush()
    return client.message()


def without_pictures(answer: dict[str, Any]) -> list[Any]:
    """What an agent reads of it: a picture costs by its size in pixels."""
    content = answer.get("result", {}).get("content", [])
    return [each for each in content if each["type"] != "image"] if content else [answer]


def test_every_call_is_answered_in_few_words_whatever_is_in_it(user: Account, wire: Wire) -> None:
    known = {"command": '"query-status"', "interface": f'"{wire.near}"', "x": "1", "y": "1", "up": "true"}
    known |= {"keys": '"a"', "text": '"a"', "action": '"list"', "sql": '"SELECT 1"', "what": '"arp"'}
    known |= {"qemu_debug action": '"where"'}
    with raw_client(user, "--allow-interface", wire.near) as client:
        client.call("qemu_boot", profile="u-boot-riscv64", gpu=True)
        client.call("qemu_pcap_start", interface=wire.near)
        wire.send(5)
        client.request("tools/list", {})
        for number, (tool, arguments) in enumerate(calls(client.answer()["tools"], known), 1000):
            params = f'{{"name": "{tool}", "arguments": {{{arguments}}}}}'
            answer = answer_to(client, f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{params}}}')
            shown = f"{tool}({arguments[:200]}): {str(answer)[:500]}"
            assert answer["id"] == number, shown
            assert len(json.dumps(without_pictures(answer))) < MOST, shown
            if "error" in answer:
                assert answer["error"]["message"].startswith("request.invalid: "), shown
            elif answer["result"].get("isError"):
                text = answer["result"]["content"][0]["text"]
                assert ERROR.match(text), shown
                assert not text.startswith("server.bug"), shown
        assert client.call("qemu_boot", profile="u-boot-riscv64")["prompt_seen"]
        client.process.terminate()
        assert client.process.wait(timeout=PATIENCE) == 0
        assert client.process.stderr is not None
        assert client.process.stderr.read() == b""


def test_what_is_no_message_is_answered_by_its_id_where_it_has_one(user: Account) -> None:
    with raw_client(user) as client:
        for line, number, code in (
            ('{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"\\udfff"}}', 7, -32700),
            ('{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', None, -32700),
            ('{"jsonrpc":"2.0","id":"a","method":"ping","params":{"x":NaN},}', None, -32700),
            ("Content-Length: 20", None, -32700),
            ('{"jsonrpc":"1.0","id":8,"method":"ping"}', 8, -32600),
            ("[" * 100_000, None, -32700),
            ("[]", None, -32600),
        ):
            answer = answer_to(client, line)
            assert (answer["id"], answer["error"]["code"]) == (number, code), line[:100]
            assert len(answer["error"]["message"]) < 500
        assert answer_to(client, '\n{"jsonrpc":"2.0","id":9,"method":"ping"}') == {
            "jsonrpc": "2.0",
            "id": 9,
            "result": {},
        }
