"""Addresses to listen on, as they are written."""

from __future__ import annotations

import pytest

from rawtap.http.door import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0", "127.0.0.1", 0),
        ("8080", "127.0.0.1", 8080),
        ("localhost:8080", "localhost", 8080),
        ("0.0.0.0:65535", "0.0.0.0", 65535),  # noqa: S104
        ("[::1]:1", "::1", 1),
        ("lab-1.example:80", "lab-1.example", 80),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port(text: str, host: str, port: int) -> None:
    parsed = Address.parsed(text)
    assert (parsed.host, parsed.port) == (host, port)
    assert str(parsed) in {text, f"127.0.0.1:{text}"}


@pytest.mark.parametrize(
    "text",
    ["", ":", ":80", "host", "host:", "host:x", "::1:80", "[::1]", "a:65536", "-1", "1:2:3", " 80", "http://a:1"],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no PORT"):
        Address.parsed(text)
