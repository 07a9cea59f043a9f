"""What a release consists of: the source, wheels, a Debian package, a bundle, entries for registries.

And a stranger, who installs them on a Debian that has nothing. Where RAWTAP_TEST_RELEASE names a folder that
scripts/release.sh made, that is taken, and not made anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
import skillsaw
from mcp import Client, StdioServerParameters, stdio_client

from engine import Image, command_in, mounted, shell_in, unpack
from support import Account, Session, children_of, serving, status_of

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = "io.github.rawtap/rawtap"
CAPABILITIES = frozenset({"net_admin", "net_raw"})


def read(path: str) -> Any:
    return json.loads((ROOT / path).read_text())


def test_every_entry_tells_the_version_that_the_package_has() -> None:
    version = PROJECT["version"]
    server = read("server.json")
    assert (server["version"], server["packages"][0]["version"]) == (version, version)
    assert read("packaging/mcpb/manifest.json")["version"] == version
    assert read("packaging/plugin/.claude-plugin/plugin.json")["version"] == version
    bundle = tomllib.loads((PACKAGING / "mcpb/pyproject.toml").read_text())["project"]
    assert bundle["version"] == version
    assert bundle["dependencies"] == [f"rawtap[query,compressed]=={version}"]
    assert bundle["requires-python"] == PROJECT["requires-python"]


def test_the_registry_takes_the_entry_and_finds_its_mark_in_the_readme() -> None:
    server = read("server.json")
    year, month, day = re.findall(r"/schemas/(\d+)-(\d+)-(\d+)/", server["$schema"])[0]
    schema = f"schemas/mcp_registry/v{year}_{month}_{day}/server.schema.json"
    jsonschema.validate(server, json.loads(Path(skillsaw.__file__).with_name("x").parent.joinpath(schema).read_text()))
    assert server["name"] == NAME
    assert f"mcp-name: {NAME} " in (ROOT / PROJECT["readme"]).read_text()
    assert server["packages"][0]["identifier"] == PROJECT["name"]


def test_the_plugin_its_skill_and_the_entries_are_well_formed() -> None:
    for folder in (ROOT, PACKAGING / "plugin"):
        program = [Path(sys.prefix, "bin/skillsaw"), "lint", "--strict", "--no-progress", folder]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_bundle_is_one_that_its_own_tool_takes() -> None:
    tool = Path(sys.prefix, "mcpb/node_modules/.bin/mcpb")
    command = [tool, "validate", PACKAGING / "mcpb/manifest.json"]
    environment = os.environ | {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_skill_calls_tools_that_are_there(user: Account) -> None:
    text = (PACKAGING / "plugin/skills/debug-a-network-stack/SKILL.md").read_text()

    async def scenario() -> None:
        async with serving(user) as session:
            tools = {each.name: each.input_schema["properties"] for each in (await session.client.list_tools()).tools}
            calls = re.findall(r"`(qemu_\w+)(?:\((.*?)\))?`", text)
            assert len(calls) > 10
            for name, arguments in calls:
                assert set(re.findall(r"(?:^|, )(\w+)=", arguments)) <= set(tools[name]), name

    anyio.run(scenario)


def test_the_source_distribution_takes_in_whatever_is_in_the_checkout() -> None:
    rules = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if not line.startswith("#")]
    named = {name for rule, *names in rules if rule in {"include", "graft"} for name in names}
    listed = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    tops = {line.split("/")[0] for line in done.stdout.splitlines()} or {each.name for each in ROOT.iterdir()} - OWN
    assert tops - named == {"pyproject.toml", "MANIFEST.in"}  # which setuptools itself takes in


OWN = {"PKG-INFO", "setup.cfg"}  # of an unpacked source distribution


@pytest.mark.parametrize("name", ["config", "postinst", "prerm", "postrm"])
def test_a_maintainers_script_is_one_that_the_shell_reads(name: str) -> None:
    script = PACKAGING / "debian" / name
    subprocess.run(["/bin/sh", "-n", script], check=True)
    assert script.stat().st_mode & 0o111
    assert "set -e\n" in script.read_text()


def libpcaps(process: int) -> set[str]:
    """The files of libpcap that a process has in its memory (proc(5))."""
    maps = Path(f"/proc/{process}/maps").read_text()
    return set(re.findall(r"/\S*libpcap[^/\s]*\.so\S*", maps))


async def captures(session: Session, process: int) -> None:
    """A guest's ping is captured, and the process that does it has one libpcap: the system's."""
    booted = await session.boot(capture=True)
    assert booted["warnings"] == []
    assert "is alive" in await session.ping()
    row = await session.call("qemu_pcap_stop")
    assert (row["packets"] >= 2, row["dropped_kernel"]) == (True, 0)
    (only,) = libpcaps(process)
    assert re.fullmatch(r"/usr/lib/[\w-]+/libpcap\.so\.[\d.]+", only)
    await session.call("qemu_shutdown")


def test_a_server_with_capabilities_has_one_libpcap_in_it(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            assert int(status_of(session.pid)["CapPrm"], 16) != 0
            await captures(session, session.pid)

    anyio.run(scenario)


# From here on: systems of their own, with packages of Debian's and PyPI's mirrors. `suite` is Debian 12, 13 or 14.

EMULATOR = {"bookworm": "qemu-system-misc", "trixie": "qemu-system-riscv", "forky": "qemu-system-riscv"}
# Without what packages only recommend: QEMU's bring three hundred.
INSTALL = "apt-get -qq install -y --no-install-recommends"
PYTHON = {"bookworm": "py311", "trixie": "py313", "forky": "py314"}


def recommended(suite: str) -> str:
    """What the package recommends, as that Debian calls it."""
    control = (PACKAGING / "debian/control").read_text()
    (told,) = re.findall(r"^Recommends: (.*)$", control, re.MULTILINE)
    either = "qemu-system-misc | qemu-system-riscv"
    assert either in told
    return told.replace(either, EMULATOR[suite]).replace(",", "")


def package(suite: str) -> str:
    """The name of its Debian package."""
    return f"rawtap_*+{PYTHON[suite]}_*.deb"


def fresh(suite: str, root: Path) -> None:
    """A new Debian in `root`."""
    unpack(suite, root)
    # The lists of one that is not released yet say until when they count, and a mirror may be behind.
    (root / "etc/apt/apt.conf.d/behind").write_text('Acquire::Check-Valid-Until "false";\n')


def run(root: Path, command: str, **environment: str) -> None:
    """As root in there, where the mirrors can be reached."""
    inside = shell_in(root, f"set -eu; {command}", {"DEBIAN_FRONTEND": "noninteractive"} | environment)
    done = subprocess.run(
        ["nsenter", f"--net={os.environ['RAWTAP_TEST_OUTSIDE']}", "--", *inside],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def away(folder: Path) -> None:
    # Not by walking in from here: whatever is mounted in there still must not be followed.
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


@pytest.fixture(scope="module", params=sorted(EMULATOR))
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def release(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What scripts/release.sh makes on that Debian, of this checkout; some minutes."""
    if made := os.environ.get("RAWTAP_TEST_RELEASE"):
        yield Path(made)
        return
    root = tmp_path_factory.mktemp("release") / "root"
    try:
        fresh(suite, root)
        listed = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-zco", "--exclude-standard"], capture_output=True, text=True, check=True
        )
        copy = ["xargs", "-0", "cp", "--parents", "-t", root / "src"]
        (root / "src").mkdir()
        subprocess.run(copy, input=listed.stdout, text=True, check=True, cwd=ROOT)
        with mounted(root):
            run(root, "cd /src && scripts/release.sh /dist")
        yield root / "dist"
    finally:
        away(root)


@pytest.fixture
def stranger(suite: str, release: Path, tmp_path: Path) -> Iterator[Path]:
    """The root of a new Debian with the release in /dist, and no compiler."""
    root = tmp_path / "root"
    try:
        fresh(suite, root)
        subprocess.run(["cp", "-a", release, root / "dist"], check=True)
        with mounted(root), packages_kept(suite, root):
            run(root, "! command -v cc gcc; apt-get -qq update; useradd --create-home you")
            yield root
    finally:
        away(root)


@contextmanager
def packages_kept(suite: str, root: Path) -> Iterator[None]:
    """What is fetched once is there for all tests; and dpkg waits for no disk, since this system lives for minutes."""
    kept, inside = Path(sys.prefix, f"roots/{suite}-packages"), root / "var/cache/apt/archives"
    (kept / "partial").mkdir(parents=True, exist_ok=True)
    (root / "etc/dpkg/dpkg.cfg.d/quick").write_text("force-unsafe-io\n")
    subprocess.run(["mount", "--bind", kept, inside], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", inside], check=True)


def serves(root: Path, command: list[str]) -> None:
    """An ordinary user's server, started as an engine starts one, captures a guest's packets."""
    image = Image(root, user="you", folder="/", entrypoint=command)

    async def scenario() -> None:
        line = command_in(image, add=CAPABILITIES)
        known = set(children_of(int(status_of("self")["Pid"])))
        async with Client(stdio_client(StdioServerParameters(command=line[0], args=line[1:]))) as client:
            (outside,) = set(children_of(int(status_of("self")["Pid"]))) - known
            (process,) = children_of(outside)
            status = status_of(process)
            assert (status["Uid"].split()[0] != "0", int(status["CapEff"], 16)) == (True, 0)
            await captures(Session(client, process), process)

    anyio.run(scenario)


@pytest.mark.soak
def test_the_source_distribution_is_the_whole_checkout(suite: str, release: Path) -> None:  # noqa: ARG001
    (path,) = release.glob("rawtap-*.tar.gz")
    with tarfile.open(path) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True)
    assert set(listed.stdout.splitlines()) - files == set()
    for wheel in release.glob("wheels/rawtap-*.whl"):
        names = zipfile.ZipFile(wheel).namelist()
        assert [each for each in names if each.endswith((".c", ".pyx"))] == []
        assert any(each.endswith("share/rawtap/setcap.sh") for each in names)
    assert (release / "SHA256SUMS").read_text().count("\n") == len(
        [each for each in release.rglob("*.*") if each.is_file()]
    )


@pytest.mark.soak
def test_with_wheels_two_commands_and_no_compiler_bring_the_first_packet(suite: str, stranger: Path) -> None:
    run(stranger, f"{INSTALL} python3-venv libpcap0.8 util-linux {EMULATOR[suite]} opensbi u-boot-qemu")
    pip = "~/rawtap/bin/pip install -q --only-binary :all: --find-links /dist/wheels rawtap"
    run(stranger, f"su you -c 'python3 -m venv ~/rawtap && {pip}'; ! command -v cc gcc", HOME="/home/you")
    serves(stranger, ["/home/you/rawtap/bin/rawtap", "serve"])
    # What the doctor shows brings the rest: with capabilities the same libpcap is found, though $ORIGIN and
    # LD_LIBRARY_PATH are not followed then.
    run(stranger, "/home/you/rawtap/bin/rawtap doctor --fix")
    serves(stranger, ["/home/you/rawtap/bin/rawtap", "serve", "--no-rootless"])
    run(stranger, "command -v dnsmasq nft pasta; test -e /home/you/rawtap/bin/python-rawtap")


@pytest.mark.soak
def test_the_debian_package_serves_a_user_and_is_purged_without_a_trace(suite: str, stranger: Path) -> None:
    private = stranger / "usr/lib/rawtap/bin/python-rawtap"
    run(stranger, f"{INSTALL} /dist/{package(suite)} {recommended(suite)}")
    assert not private.exists()  # nobody was asked, and nobody said yes
    run(stranger, "/usr/lib/rawtap/bin/python3 -c 'import duckdb, lz4, textual'")
    run(stranger, "su you -c 'rawtap setcap' 2>&1 | grep -F 'sudo dpkg-reconfigure rawtap, then adduser YOU rawtap'")
    serves(stranger, ["rawtap", "serve"])
    run(stranger, "echo rawtap rawtap/install-setcap boolean true | debconf-set-selections; dpkg-reconfigure rawtap")
    run(stranger, "usermod --gid rawtap you")
    serves(stranger, ["rawtap", "serve", "--no-rootless"])
    private.write_bytes(b"old")  # as an update of Debian's interpreter leaves it behind: a trigger makes it anew
    run(stranger, "dpkg-trigger --by-package python3 $(readlink -f /usr/bin/python3); dpkg --triggers-only --pending")
    assert private.stat().st_size > 1000
    run(stranger, "usermod --gid you you; rm -r /dist; apt-get -qq purge -y rawtap")
    elsewhere = [word for path in ("*/home/*", "*/apt/archives/*") for word in ("-not", "-path", path)]
    left = ["find", stranger, "-xdev", "-name", "*rawtap*", *elsewhere]
    assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""
    places = [stranger / each for each in ("etc", "var/lib/dpkg/info", "var/cache/debconf")]
    told = subprocess.run(["grep", "-rIl", "rawtap", *places], capture_output=True, text=True, check=False)
    # What ends like this is what was there before a change, kept by the tool that made it.
    assert [each for each in told.stdout.splitlines() if not each.endswith(("-", "-old"))] == []
