"""Guests with several network cards: on one bridge or on several, captured together, each with a cable of its own."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from support import Account, Session, command_of, link_names, serving

_FURTHER = """
[[cards]]
nic = "e1000"
bridge = "more-br0"
address = "10.0.3.2/24"

[[cards]]
nic = "virtio-net"
mac = "52:54:00:00:00:99"
mtu = 9000
"""


def project(user: Account, toml: str) -> Path:
    """U-Boot, with more cards."""
    root = user.home / "project"
    root.mkdir()
    (root / "rawtap.toml").write_text(f'profile = "u-boot-riscv64"\nservices = true\n{toml}', "utf-8")
    os.chown(root / "rawtap.toml", user.uid, user.gid)
    return root


async def pings(session: Session, card: str, mine: str, other: str) -> str:
    """What U-Boot says when it pings by that one of its cards."""
    await session.typed(
        f"setenv ethrotate no; setenv ethact {card}; setenv ipaddr {mine}; setenv netmask 255.255.255.0"
    )
    return await session.typed(f"ping {other}")


async def names_of(session: Session) -> dict[str, str]:
    """U-Boot's names for its cards, by their addresses."""
    listed = await session.typed("net list")
    found = [line.split() for line in listed.splitlines() if line.startswith("eth")]
    return {words[3]: words[2] for words in found}


def test_each_card_is_on_its_bridge_and_one_capture_has_them_all(user: Account) -> None:
    root = project(user, _FURTHER)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), network=True, capture=True)
            first, second, third = booted["network"], *booted["more_networks"]
            assert [each["bridge"] for each in (first, second, third)] == ["rawtap-br0", "more-br0", "rawtap-br0"]
            assert third["mac"] == "52:54:00:00:00:99"
            assert len({each["mac"] for each in (first, second, third)}) == 3
            assert booted["capture"]["format"] == "pcapng"
            names = await names_of(session)
            assert "is alive" in await pings(session, names[first["mac"]], "10.0.2.75", "10.0.2.2")
            assert "is alive" in await pings(session, names[second["mac"]], "10.0.3.75", "10.0.3.2")
            stopped = await session.call("qemu_pcap_stop")
            page = await session.call("qemu_pcap_read", capture=stopped["capture"], filter="icmp[0] == 0")
            assert [each["point"] for each in page["packets"]] == [first["tap"], second["tap"]]
            explained = await session.call("qemu_pcap_explain", capture=stopped["capture"])
            assert explained["findings"] == []
            assert link_names() >= {"rawtap-br0", "more-br0", first["tap"], second["tap"], third["tap"]}
            assert Path(f"/sys/class/net/{third['tap']}/mtu").read_text(encoding="ascii") == "9000\n"
            (row,) = (await session.call("qemu_status"))["guests"]
            assert [each["sent"] > 0 for each in (row["card"], *row["more_cards"])] == [True, True, False]
            again = await session.call("qemu_pcap_start", filter="icmp")
            assert again["format"] == "pcapng"
            ended = await session.call("qemu_shutdown")
            assert {f"TAP {each['tap']}" for each in (first, second, third)} <= set(ended["released"])
            assert {"bridge rawtap-br0", "bridge more-br0"} <= set(ended["released"])
            assert len(set(ended["released"])) == len(ended["released"]), "each once"

    anyio.run(scenario)
    assert link_names() == set()


def test_the_cable_of_one_card_is_pulled_and_the_other_one_stays(user: Account) -> None:
    root = project(user, _FURTHER)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), network=True)
            (second, _) = booted["more_networks"]
            pulled = await session.call("qemu_link", up=False, interface=second["interface"])
            assert (pulled["tap"], pulled["carrier"]) == (second["tap"], False)
            names = await names_of(session)
            first = booted["network"]
            assert "is alive" in await pings(session, names[first["mac"]], "10.0.2.75", "10.0.2.2")
            assert "is alive" not in await pings(session, names[second["mac"]], "10.0.3.75", "10.0.3.2")
            refused = await session.refused("qemu_link", up=True, interface="eth0")
            assert refused.code == "request.invalid"

    anyio.run(scenario)


@pytest.mark.parametrize("network", [True, "user"])
def test_a_line_with_several_cards_has_them_all(user: Account, network: object) -> None:
    root = project(user, "")
    line = (
        "qemu-system-riscv64 -M virt -kernel /usr/lib/u-boot/qemu-riscv64_smode/uboot.elf -nographic "
        "-netdev user,id=a -device e1000,netdev=a -netdev user,id=b -device virtio-net-pci,netdev=b "
        "-nic user,model=rtl8139,mac=52:54:00:00:00:07"
    )

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call(
                "qemu_boot", project_root=str(root), qemu_command=line, network=network, overrides={"prompt": "=> "}
            )
            assert booted["prompt_seen"]
            assert booted["warnings"] == [] or network == "user"
            macs = [booted["network"]["mac"], *(each["mac"] for each in booted["more_networks"])]
            assert (len(set(macs)), macs[2]) == (3, "52:54:00:00:00:07")
            command = command_of(booted["pid"])
            assert [command.count(model) for model in ("e1000", "virtio-net-pci", "rtl8139")] == [1, 1, 1]
            names = {booted["network"]["interface"], *(each["interface"] for each in booted["more_networks"])}
            for name in names:
                started = await session.call("qemu_pcap_start", interface=name)
                assert started["interface"] == name
            await session.call("qemu_link", up=False, interface=max(names))

    anyio.run(scenario)


def test_a_machine_has_nodes_of_memory(user: Account) -> None:
    root = project(user, 'smp = 2\nnuma = [{ memory = "64M", cpus = "0" }, { memory = "64M", cpus = "1" }]\n')

    async def scenario() -> None:
        async with serving(user) as session:
            assert (await session.call("qemu_boot", project_root=str(root)))["prompt_seen"]
            assert "numa-node-id" in await session.typed("fdt addr ${fdtcontroladdr}; fdt print /cpus/cpu@0")

    anyio.run(scenario)


def test_a_card_has_its_address_again_after_a_restart_and_no_two_servers_give_the_same(user: Account) -> None:
    root = project(user, "")

    async def scenario() -> None:
        async with serving(user) as session, serving(user) as other:
            first = await session.call("qemu_boot", project_root=str(root), network=True)
            second = await other.call("qemu_boot", project_root=str(root), network=True)
            assert first["network"]["mac"] != second["network"]["mac"]
            await session.typed("setenv autoload no; dhcp")
            (lease,) = (await session.call("qemu_status"))["networks"][0]["leases"]
        async with serving(user) as later:
            again = await later.call("qemu_boot", project_root=str(root), network=True)
            assert again["network"]["mac"] == first["network"]["mac"]
            await later.typed("setenv autoload no; dhcp")
            (found,) = (await later.call("qemu_status"))["networks"][0]["leases"]
            assert found["address"] == lease["address"]

    anyio.run(scenario)
