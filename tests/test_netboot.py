"""Machines without a disk boot from the network: firmware for PCs and UEFI, by TFTP and by HTTP, each kind of client
with its own file, on a bridge and on QEMU's own network."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from support import Account, Session, link_names, serving

# GRUB as one UEFI program, with its own configuration inside: it tells from where it was started.
SAYS = 'echo "grub over $net_default_server from $root"\n'
MODULES = ["efinet", "net", "tftp", "echo", "normal", "sleep", "halt"]
IPXE = Path("/usr/lib/ipxe/snponly.efi")
SCRIPT = "#!ipxe\necho ipxe ${platform} fetched from ${next-server}\nshell\n"
PC = 'arch = "x86_64"\nmemory = "256M"\nboot = "n"\nframing = false\n'


# What UEFI would try before, until it gives up: EDK II has a switch for each (OvmfPkg/README).
HTTP_ALONE = "".join(
    f'[[fw_cfg]]\nname = "opt/org.tianocore/{each}PXESupport"\ntext = "n"\n' for each in ("IPv4", "IPv6")
)


def machine(user: Account, lines: str) -> str:
    """A project's folder, with what its network boot begins with in "boot"."""
    root = user.home / "project"
    boot = root / "boot"
    boot.mkdir(parents=True)
    (boot / "hello.ipxe").write_text(SCRIPT, encoding="ascii")
    shutil.copy(IPXE, boot / "ipxe.efi")
    (root / "inside.cfg").write_text(SAYS, encoding="ascii")
    made = ["grub-mkimage", "-O", "x86_64-efi", "-p", "/none", "-c", root / "inside.cfg", "-o", boot / "grub.efi"]
    subprocess.run([*made, *MODULES], check=True)
    (root / "rawtap.toml").write_text(PC + lines, encoding="utf-8")
    return str(root)


@contextmanager
def web(folder: Path) -> Iterator[list[str]]:
    """A web server on all addresses; what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            asked.append(format % args)

    with http.server.ThreadingHTTPServer(("", 8080), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


async def says(session: Session, root: str, words: str, network: object = True) -> str:
    """Boot until the console shows those words, with a capture of it all."""
    await session.call("qemu_boot", project_root=root, network=network, capture=True, wait_for_prompt=False, timeout=0)
    said = await session.until_said(words, seconds=600)
    await session.call("qemu_shutdown", timeout=0)
    return said


async def is_clean(session: Session) -> list[str]:
    """What explain finds in the boot's capture, but for what is a firmware's way; the files that were read by TFTP."""
    told = await session.call("qemu_pcap_explain", filter="udp")
    assert not [each for each in told["findings"] if each["what"].startswith(("dhcp.", "tftp."))], told["findings"]
    return [each for row in told["exchanges"] if row["kind"] == "TFTP" for each in row["told"]]


EACH = 'bootfile = { bios = "wrong.0", uefi-x86_64 = "ipxe.efi", http-x86_64 = "wrong.efi", ipxe = "hello.ipxe" }\n'


@pytest.mark.parametrize(
    ("lines", "platform"), [('machine = "pc"\n', "pcbios"), ('machine = "q35"\nuefi = true\n', "efi")]
)
def test_each_kind_of_client_gets_its_own_file_by_tftp(user: Account, lines: str, platform: str) -> None:
    """A PC's card has iPXE in its option ROM; UEFI's own client fetches iPXE, which asks once more for itself."""
    root = machine(user, lines + 'tftp = "boot"\n' + EACH)

    async def scenario() -> None:
        async with serving(user) as session:
            await says(session, root, f"ipxe {platform} fetched from 10.0.2.2")
            read = " ".join(await is_clean(session))
            assert ("ipxe.efi" in read) == (platform == "efi")
            assert "hello.ipxe" in read
            assert "wrong" not in read

    anyio.run(scenario)
    assert link_names() == set()


def test_uefi_fetches_grub_by_tftp_from_qemu_itself(user: Account) -> None:
    files = '{ uefi-aarch64 = "other.efi", uefi-x86_64 = "grub.efi" }'
    root = machine(user, f'machine = "q35"\nuefi = true\ntftp = "boot"\nbootfile = {files}\n')

    async def scenario() -> None:
        async with serving(user) as session:
            await says(session, root, "grub over 10.0.2.2", "user")

    anyio.run(scenario)


def test_uefi_boots_by_http_where_the_offer_says_so(user: Account) -> None:
    file = 'bootfile = { http-x86_64 = "http://10.0.2.2:8080/grub.efi" }\n'
    root = machine(user, f'machine = "q35"\nuefi = true\n{file}{HTTP_ALONE}')

    async def scenario() -> None:
        async with serving(user) as session:
            await says(session, root, "grub over")
            await is_clean(session)

    with web(Path(root) / "boot") as asked:
        anyio.run(scenario)
    assert any("GET /grub.efi" in each and "200" in each for each in asked)


def test_who_ignores_an_offer_for_want_of_a_file_is_told(user: Account) -> None:
    """UEFI's loader for PXE takes no offer without a file, and the capture tells why nothing comes."""
    root = machine(user, 'machine = "q35"\nuefi = true\nservices = true\n')

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_boot", project_root=root, network=True, capture=True, wait_for_prompt=False)
            seen = await session.call(
                "qemu_pcap_wait", filter="udp src port 67 and udp[8] = 2", since="start", count=2, timeout=300
            )
            assert seen["satisfied"], seen
            with anyio.fail_after(300):
                while not (found := await ignored(session)):
                    await session.call("qemu_pcap_wait", timeout=1)
            assert found[0]["host"] == "10.0.2.2"

    anyio.run(scenario)


async def ignored(session: Session) -> list[dict[str, object]]:
    told = await session.call("qemu_pcap_explain")
    return [each for each in told["findings"] if "ignores offers without a bootfile" in each["says"]]
