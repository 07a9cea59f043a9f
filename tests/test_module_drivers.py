"""Debian's ordinary kernel, whose drivers are modules, on one card and one disk after the other: it finds the card,
asks for an address, fetches a file from the host, and reads from the disk."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from support import Account, serving
from test_linux_guest import PROMPT, typed

IMAGES = Path(sys.prefix) / "linux/modules"  # made by scripts/_linux_guest.sh
MARK, FILE = "on this disk", "a file of the host's"


@contextmanager
def web(folder: Path) -> Iterator[None]:
    """A web server on all addresses."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("", 8080), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def linux_tree(account: Account, machine: str, nic: str, interface: str) -> str:
    """A project's folder for that machine, with a file that is there to be fetched."""
    root = account.home / "project"
    root.mkdir()
    (root / "file.txt").write_text(FILE, encoding="ascii")
    with (root / "disk.img").open("wb") as image:
        image.write(MARK.encode())
        image.truncate(64 << 20)
    lines = [
        'arch = "x86_64"',
        f'machine = "{machine}"',
        'memory = "256M"',
        f'kernel = "{IMAGES}/vmlinuz"',
        f'initrd = "{IMAGES}/initrd"',
        'bootargs = "console=ttyS0 quiet net.ifnames=0"',
        f'prompt = "{PROMPT}"',
        "services = true",
        f'nic = "{nic}"',
        f'drives = [{{ path = "disk.img", interface = "{interface}" }}]',
        "overlay = true",
    ]
    (root / "rawtap.toml").write_text("\n".join(lines), encoding="utf-8")
    return str(root)


@pytest.mark.parametrize(
    ("machine", "nic", "interface", "disk"),
    [
        ("pc", "e1000", "ide", "sda"),
        ("q35", "rtl8139", "ahci", "sda"),
        ("pc", "ne2k_pci", "nvme", "nvme0n1"),
        ("q35", "pcnet", "sd", "mmcblk0"),
        ("q35", "vmxnet3", "virtio", "vda"),
    ],
)
def test_a_kernel_with_modules_finds_its_card_and_its_disk(
    user: Account, machine: str, nic: str, interface: str, disk: str
) -> None:
    root = linux_tree(user, machine, nic, interface)

    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES) as session:
            booted = await session.call("qemu_boot", project_root=root, network=True, capture=True, timeout=600)
            assert (booted["prompt_seen"], booted["warnings"]) == (True, []), booted
            await typed(session, "ip link set eth0 up")
            assert "lease of 10.0.2." in await typed(session, "udhcpc -i eth0 -n -q -s /etc/udhcpc.sh")
            assert FILE in (said := await typed(session, "wget -q -O - http://10.0.2.2:8080/file.txt; echo")), said
            await typed(session, f"until [ -b /dev/{disk} ]; do /etc/coldplug.sh; done")
            assert MARK in (said := await typed(session, f"head -c {len(MARK)} /dev/{disk}; echo")), said
            told = await session.call("qemu_pcap_explain")
            assert not [each for each in told["findings"] if each["what"].startswith(("dhcp", "tcp", "ip."))], told

    with web(Path(root)):
        anyio.run(scenario)
