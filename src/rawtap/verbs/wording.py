"""What rawtap tells an agent to do next, told to a person: commands and their options in place of tools. Pure."""

from __future__ import annotations

import re

from rawtap.errors import RawtapError

_TOOL = (
    r"\bqemu_(?:boot|debug|doctor|examine|link|monitor|mouse|packet_send|pcap_[a-z]+|read|record|screenshot|send|send_key|shutdown"
    r"|snapshot|status|timeline|type)\b"
)
# Not compiled here: every command imports this, and few need it.
_SAID = (
    (r'\bqemu_pcap_start\(interface="([^"]*)"\)', r"rawtap capture \1"),
    (r"\bqemu_boot\(network=true\)", "rawtap boot --network bridge"),
    (r'\bqemu_boot\(network="user"\)', "rawtap boot --network user"),
    (r"\bnetwork=true\b", "--network bridge"),
    (r'\bnetwork="user"', "--network user"),
    (r"\b(services|capture)=true\b", r"--\1"),
    (r"\bqemu_command\b", "--line"),
    (r"\bGive project_root as an absolute path", "Name one that is there"),
    (r"\bqemu_doctor\b", "rawtap doctor"),
    (r"\bqemu_pcap_query shows them: (SELECT .*)", r'rawtap query FILE "\1" shows them'),
    (r"\bqemu_pcap_read\b", "rawtap read FILE"),
    (r"\bqemu_status (?:shows the interfaces that are|lists what is) there", "ip link shows the interfaces"),
    (r"; start a new capture", ""),
    (r": qemu_read(?: and qemu_timeline)? shows? more", ""),
    (r", or qemu_send them", ", or type them: rawtap boot without --script"),
    (r"; qemu_send types to it all the same|; the next qemu_send waits for its prompt|: qemu_send it\b", ""),
    (r": qemu_read\(wait_for=\.\.\.\) waits on; qemu_send\([^)]*\) interrupts", "; --timeout gives it longer"),
    (r" \(qemu_(?:read|send)\)", ""),
    (r"(?:; )?only the last [0-9]+ characters are shown; earlier: qemu_read\(position=[0-9]+\)", ""),
)


def for_person(text: str) -> str:
    """`text` with each tool that has a command of its own as that command."""
    for agents, persons in _SAID:
        text = re.sub(agents, persons, text)
    return text


def told(error: Exception) -> str:
    """An error's text. Of a cure, which is rawtap's own words, what only an agent could do is left out."""
    if not isinstance(error, RawtapError):
        return str(error)
    parts = [for_person(error.cure)]
    if re.search(_TOOL, parts[0]):
        parts = [each for each in re.split(r"(?<=[;.]) ", parts[0]) if not re.search(_TOOL, each)]
    return error.told(" ".join(parts).rstrip(";"))
