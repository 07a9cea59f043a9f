"""rawtap in a container: the Containerfile carried out, and what came of it run with an engine's namespaces and
capabilities. No container engine takes part; `engine` says by what means, and what is missing of one."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from pyroute2 import IPRoute

from engine import Build, Image, command_in, instructions_of
from http_support import TOKEN, HttpServer, connected, started
from support import PATIENCE, Session, children_of, eventually, exists, link_names, status_of

ROOT = Path(__file__).parents[1]
CONTAINERFILE = ROOT / "container/Containerfile"
PRIVILEGED, ROOTLESS = frozenset({"net_admin", "net_raw"}), frozenset[str]()
NUMBERS = {"net_bind_service": 10, "net_admin": 12, "net_raw": 13}


def test_the_containerfile_takes_nothing_that_is_not_there_and_its_packages_from_the_one_list() -> None:
    instructions = instructions_of(CONTAINERFILE.read_text(encoding="utf-8"))
    copied = [each.rest.split()[:-1] for each in instructions if each.keyword == "COPY" and "--from" not in each.rest]
    assert copied
    assert all((ROOT / source).exists() for sources in copied for source in sources)
    ignored = (CONTAINERFILE.parent / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {source.split("/")[0] for sources in copied for source in sources} == {
        line.removeprefix("!") for line in ignored if line.startswith("!")
    }
    runs = " ".join(each.rest for each in instructions if each.keyword == "RUN")
    assert "apt-get" not in runs
    listed = (ROOT / "scripts/_setup.sh").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+_PACKAGES)\[@\]\}", runs))
    assert used == {"RUN_PACKAGES", "BUILD_PACKAGES", "OPTIONAL_PACKAGES"}
    assert all(f"readonly {name}=(" in listed for name in used)
    assert [each.rest for each in instructions if each.keyword == "USER"] == ["rawtap"]


def test_the_run_lines_and_the_compose_file_give_what_the_server_needs_and_no_more() -> None:
    compose = (ROOT / "container/compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"^      - (NET_\w+)$", compose, re.MULTILINE)) == {name.upper() for name in NUMBERS}
    assert '"127.0.0.1:7298:7298"' in compose
    page = (ROOT / "docs/container.md").read_text(encoding="utf-8").replace("\\\n", " ")
    runs = [line for line in page.splitlines() if line.startswith("podman run")]
    assert runs
    assert all("--device /dev/net/tun" in line for line in runs)
    assert {frozenset(re.findall(r"--cap-add (\w+)", line)) for line in runs} == {
        frozenset(name.upper() for name in added) for added in (PRIVILEGED, ROOTLESS)
    }


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """What the Containerfile comes to; it takes some minutes, and the mirrors of Debian and PyPI."""
    folder = tmp_path_factory.mktemp("image")
    try:
        yield Build(ROOT, folder, os.environ["RAWTAP_TEST_OUTSIDE"]).run(CONTAINERFILE.read_text(encoding="utf-8"))
    finally:
        # Not by walking in from here: whatever is mounted in there still must not be followed.
        subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


def server_of(process: int) -> int:
    """The server's process number, as it is here: the only child of the `process` that started its container."""
    (inside,) = children_of(process)
    return inside


async def story(session: Session) -> None:
    booted = await session.boot(services=True)
    # An engine's /proc/sys is read-only, and there is no IPv6 without writing there.
    assert [each for each in booted["warnings"] if "(Read-only file system)" not in each] == []
    await session.call("qemu_pcap_start", filter="icmp")
    assert "is alive" in await session.ping()
    row = await session.call("qemu_pcap_stop")
    assert (row["packets"], row["dropped_kernel"]) == (2, 0)
    assert [each for each in row["warnings"] if "/sys does not show this network namespace" not in each] == []
    assert str(row["path"]).startswith("/captures/")
    assert "bound to address" in (await session.call("qemu_send", command="setenv autoload no; dhcp"))["output"]
    ended = await session.call("qemu_shutdown")
    assert (ended["exit_code"], ended["left_standing"]) == (0, [])


@pytest.mark.soak
@pytest.mark.parametrize("added", [PRIVILEGED, ROOTLESS], ids=["cap-add", "rootless"])
def test_the_story_over_stdio(image: Image, added: frozenset[str]) -> None:
    async def scenario() -> None:
        command = command_in(image, add=added)
        parameters = StdioServerParameters(command=command[0], args=command[1:])
        known = set(children_of(int(status_of("self")["Pid"])))
        async with Client(stdio_client(parameters)) as client:
            (outside,) = set(children_of(int(status_of("self")["Pid"]))) - known
            session = Session(client, server_of(outside))
            status = status_of(session.pid)
            assert status["Uid"].split()[0] == image.ids()[0] != "0"
            assert int(status["CapEff"], 16) == 0
            held = {name for name, number in NUMBERS.items() if int(status["CapPrm"], 16) >> number & 1}
            assert held == set(NUMBERS)  # in a user namespace of its own, where none was added
            assert (await session.call("qemu_status"))["rootless"] == (added == ROOTLESS)
            checks = (await session.call("qemu_doctor"))["checks"]
            assert [check for check in checks if not check["ok"]] == []
            await story(session)

    anyio.run(scenario)
    assert link_names() == set()


@pytest.mark.soak
@pytest.mark.parametrize("added", [PRIVILEGED, ROOTLESS], ids=["cap-add", "rootless"])
def test_the_story_over_http(image: Image, added: frozenset[str]) -> None:
    command = command_in(
        image,
        *("serve", "--capture-dir", "/captures", "--http", "0.0.0.0:7298", "--allow-host", "192.168.77.2"),
        add=added,
        environment={"RAWTAP_TOKEN": TOKEN},
    )
    with started(command) as server:
        inside = server_of(server.pid)
        lead_in(server.pid)  # a rootless server has left it
        server.url = "http://192.168.77.2:7298/mcp"
        anyio.run(scenario_over_http, server)
        # As an engine's stop does it: to the first process of the container.
        subprocess.run(["kill", str(inside)], check=True)
        assert server.process.wait(timeout=PATIENCE) == 0
        assert not exists(inside)
    assert eventually(lambda: link_names() == set())


def lead_in(process: int) -> None:
    """A veth pair into that process's network, as an engine makes one: 192.168.77.1 here, .2 there."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="outside", kind="veth", peer={"ifname": "inside"})
        netlink.link("set", index=netlink.link_lookup(ifname="inside")[0], net_ns_pid=process)
        index = netlink.link_lookup(ifname="outside")[0]
        netlink.addr("add", index=index, address="192.168.77.1", prefixlen=24)
        netlink.link("set", index=index, state="up")
    there = ["nsenter", f"--net=/proc/{process}/ns/net", "ip"]
    subprocess.run([*there, "addr", "add", "192.168.77.2/24", "dev", "inside"], check=True)
    subprocess.run([*there, "link", "set", "inside", "up"], check=True)


async def scenario_over_http(server: HttpServer) -> None:
    async with connected(server) as first, connected(server, "b") as second:
        await story(first)
        await story(second)


@pytest.mark.soak
@pytest.mark.parametrize("lacking", sorted(NUMBERS))
def test_where_one_capability_is_kept_back_the_doctor_says_which(image: Image, lacking: str) -> None:
    command = command_in(image, "doctor", "--no-rootless", add=PRIVILEGED, drop=frozenset({lacking}))
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert f"the bounding set lacks CAP_{lacking.upper()}" in done.stdout, done.stderr
    # The privileged way lacks what CAP_NET_ADMIN's own check does.
    assert done.stdout.count("the bounding set lacks") == (2 if lacking == "net_admin" else 1)
    assert done.returncode == (0 if lacking == "net_bind_service" else 1)
