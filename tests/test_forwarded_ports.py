"""Ports of this machine's loopback that lead to a guest on QEMU's own network, where the operator allows it."""

from __future__ import annotations

import socket
from contextlib import nullcontext

import anyio
import pytest

from internet import internet
from support import Account, serving
from test_linux_guest import IMAGES, linux_tree

_LINE = (
    f"qemu-system-x86_64 -M q35 -m 256 -nographic -kernel {IMAGES}/vmlinuz -initrd {IMAGES}/initrd "
    '-append "console=ttyS0 quiet" -netdev user,id=n,hostfwd=tcp::2222-:80,hostfwd=tcp::5555-:81 '
    "-device virtio-net-pci,netdev=n"
)
_LISTEN = (
    "ip link set eth0 up; udhcpc -i eth0 -n -q -s /etc/udhcpc.sh",
    "echo from the guest | nc -l -p 80 &",
    "until netstat -ltn | grep ':80 '; do sleep 0.1; done",
)


def said_at(port: int) -> bytes:
    """What a program of this machine's gets there; the network of these tests' is the host's to the server."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as there:
        return there.recv(100)


@pytest.mark.parametrize("rootless", [False, True], ids=["privileged", "rootless"])
def test_a_programs_connection_to_an_allowed_port_gets_to_the_guest(
    user: Account, outsider: Account, rootless: bool
) -> None:
    account = outsider if rootless else user
    root = linux_tree(account)

    async def scenario() -> None:
        async with serving(account, "--allow-forward", "2200-2299", "--image-dir", IMAGES) as session:
            asked = {"project_root": root, "qemu_command": _LINE, "network": "user", "timeout": 120}
            booted = await session.call("qemu_boot", **asked)
            assert booted["prompt_seen"], booted
            told = booted["warnings"]
            assert "127.0.0.1:2222/tcp leads to its port 80" in told
            assert "not carried: the forwarded port 5555: the operator gives 2200 to 2299" in told
            for command in _LISTEN:
                done = await session.call("qemu_send", command=command, timeout=120)
                assert done["matched"], done
            assert await anyio.to_thread.run_sync(said_at, 2222) == b"from the guest\n"
            overrides = {"forward": [{"host": 8080, "guest": 80}]}
            failed = await session.refused("qemu_boot", **asked | {"name": "b"}, overrides=overrides)
            assert failed.code == "request.invalid"
            assert "the port 8080 of this machine may not lead to a guest" in str(failed)
            await session.call("qemu_shutdown", timeout=0)
            with pytest.raises(ConnectionRefusedError):
                said_at(2222)

    with internet(ipv6=True) if rootless else nullcontext():
        anyio.run(scenario)


def test_a_programs_connection_gets_to_a_guest_on_the_bridge_of_a_rootless_server(outsider: Account) -> None:
    root = linux_tree(outsider)
    overrides = {"forward": [{"host": 2222, "guest": 80}], "services": True}

    async def scenario() -> None:
        async with serving(outsider, "--rootless", "--allow-forward", "2222", "--image-dir", IMAGES) as session:
            asked = {"project_root": root, "network": True, "timeout": 120, "overrides": overrides}
            booted = await session.call("qemu_boot", **asked)
            assert "127.0.0.1:2222/tcp leads to its port 80" in booted["warnings"]
            assert await anyio.to_thread.run_sync(said_at, 2222) == b"", "it has no address yet"
            for command in _LISTEN:
                done = await session.call("qemu_send", command=command, timeout=120)
                assert done["matched"], done
            assert await anyio.to_thread.run_sync(said_at, 2222) == b"from the guest\n"
            events = (await session.call("qemu_timeline", sources=["event"], limit=200))["events"]
            assert any("guest has no address yet" in str(each) for each in events)
            await session.call("qemu_shutdown", timeout=0)
            with pytest.raises(ConnectionRefusedError):
                said_at(2222)

    with internet(ipv6=True):
        anyio.run(scenario)


def test_without_the_operators_word_no_port_leads_to_a_guest(user: Account) -> None:
    root = linux_tree(user)

    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES) as session:
            asked = {"project_root": root, "network": "user", "overrides": {"forward": [{"host": 2222, "guest": 80}]}}
            failed = await session.refused("qemu_boot", **asked)
            assert "rawtap serve --allow-forward" in str(failed)
            assert (await session.call("qemu_status"))["guests"] == []

    anyio.run(scenario)
