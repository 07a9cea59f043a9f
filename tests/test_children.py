"""What a child of rawtap's may reach: its own files and ports, whatever it reads makes it want."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from rawtap.errors import GuestExited, PathNotAllowed
from rawtap.guest import images
from rawtap.guest.command_line import Inherited, arguments
from rawtap.guest.hardware import Drive
from rawtap.guest.machine import Machine
from rawtap.guest.patterns import compiled
from rawtap.guest.profile import MachineSpec, Profile
from rawtap.guest.spawning import access_of
from rawtap.host import children, landlock
from rawtap.host.landlock import Access
from support import Account, ToolFailed, command_of, descendants_of, eventually, exists, serving

PYTHON = "/usr/bin/python3"

# A PC's guest that prints the first module that a Multiboot loader gave it, and a line's end
# (Multiboot Specification 0.6.96, "Boot information format").
_PRINTS_ITS_MODULE = """
    .text
    .long 0x1badb002, 0, -0x1badb002
    .globl start
start:
    mov 24(%ebx), %edi
    mov (%edi), %esi
    mov 4(%edi), %edi
    mov $0x3f8, %edx
1:  lodsb
    out %al, %dx
    cmp %edi, %esi
    jb 1b
    mov $10, %al
    out %al, %dx
2:  hlt
    jmp 2b
"""

# Starts what follows on a kernel without Landlock, as far as that can tell: its system calls are not implemented.
# linux/seccomp.h, linux/filter.h: load the call's number; 444 to 446 fail with ENOSYS.
_WITHOUT_LANDLOCK = """
import ctypes, os, struct, sys
rules = [(0x20, 0, 0, 0), (0x35, 0, 2, 444), (0x25, 1, 0, 446), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7FFF0000)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = struct.pack("HxxxxxxP", len(rules), ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, program, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "seccomp")
os.execvp(sys.argv[1], sys.argv[1:])
"""
WITHOUT_LANDLOCK = (sys.executable, "-c", _WITHOUT_LANDLOCK)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A private file of the user's that these tests run as: but for its ruleset a child of theirs may read it."""
    file = tmp_path / "secret"
    file.write_text("the secret " * 100, encoding="ascii")
    file.chmod(0o600)
    return file


@pytest.fixture
def module_printer(tmp_path: Path) -> MachineSpec:
    """A guest that prints its initrd."""
    (tmp_path / "guest.s").write_text(_PRINTS_ITS_MODULE, encoding="ascii")
    subprocess.run(["as", "--32", "-o", tmp_path / "guest.o", tmp_path / "guest.s"], check=True)
    link = ["ld", "-m", "elf_i386", "-Ttext=0x100000", "-e", "start", "-z", "noexecstack", "--no-warn-rwx-segments"]
    subprocess.run([*link, "-o", tmp_path / "guest.elf", tmp_path / "guest.o"], check=True)
    return MachineSpec(Profile(arch="x86_64", machine="pc", memory="32M", bus="pci"), tmp_path / "guest.elf")


def with_initrd(spec: MachineSpec, initrd: Path) -> MachineSpec:
    return MachineSpec(spec.profile, spec.kernel, initrd=initrd)


def python(code: str, access: Access) -> children.Finished:
    return children.run([PYTHON, "-I", "-c", code], "", access)


HOME = Access(programs=(Path(PYTHON),))


# ------------------------------------------------------------------ what QEMU reads


def test_a_name_that_qemu_cuts_at_a_space_opens_no_other_file(
    module_printer: MachineSpec, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest shows what it got; without a decoy's space it is the file of that name."""
    monkeypatch.setattr("rawtap.guest.machine.kvm_is_open", lambda _: False)  # as for most who run this
    folder = secret.parent / "project"
    folder.mkdir()
    (folder / "initrd").symlink_to(secret)
    (folder / "initrd img").write_text("a decoy", encoding="ascii")
    (folder / "plain").write_text("a plain file", encoding="ascii")

    async def scenario() -> None:
        machine = await Machine.spawn("plain", with_initrd(module_printer, folder / "plain"), None, folder)
        try:
            await machine.greet()
            await machine.run()
            assert (await machine.read((compiled("a plain file"),), 120)).matched
        finally:
            await machine.end()
        cut = await Machine.spawn("cut", with_initrd(module_printer, folder / "initrd img"), None, folder)
        with pytest.raises(GuestExited, match=f"Failed to open file '{folder}/initrd'"):
            await cut.greet()

    anyio.run(scenario)


def test_such_a_name_is_refused_before_with_its_reason(user: Account) -> None:
    root = user.home / "project"
    root.mkdir()
    (root / "k").touch()
    (root / "initrd img").touch()
    (root / "rawtap.toml").write_text('kernel = "k"\ninitrd = "initrd img"\n', encoding="ascii")

    async def scenario() -> None:
        async with serving(user) as session:
            with pytest.raises(ToolFailed, match=r"guest\.path_not_allowed.*there is ' ' in its path"):
                await session.call("qemu_boot", project_root=str(root))

    anyio.run(scenario)


def image(path: Path, *options: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", *options, path, "1M"], check=True)
    path.chmod(0o666)
    return path


def test_qemu_opens_no_file_that_an_image_names(tmp_path: Path, secret: Path) -> None:
    """As it would after a look that came too early: nothing but the ruleset is between QEMU and the file."""
    outside = secret.parent / "outside.raw"
    bad = image(tmp_path / "bad.qcow2", "-f", "qcow2", "-o", f"data_file={outside}")
    spec = MachineSpec(Profile(), None, (Drive(path=str(bad), format="qcow2"),))
    qemu, argv = "/usr/bin/qemu-system-riscv64", arguments(spec, Inherited(0, 0))
    block = argv[argv.index("-blockdev") :][:2]
    command = [qemu, "-M", "none", "-display", "none", "-monitor", "stdio", *block]
    done = children.run(command, "quit\n", access_of(spec, qemu, kvm=False))
    assert done.code == 1
    assert f"Could not open '{outside}': Permission denied" in done.complaint


def test_an_image_is_looked_at_again_when_nobody_can_write_it_any_more(tmp_path: Path) -> None:
    """A guest that had it as a raw disk writes another header after the first look, and is gone."""
    disk, other = image(tmp_path / "disk.qcow2", "-f", "qcow2"), tmp_path / "other.raw"
    spec = MachineSpec(Profile(), None, (Drive(path=str(disk), format="qcow2"),))
    with images.held("b", spec):
        pass
    disk.write_bytes(image(tmp_path / "bad.qcow2", "-f", "qcow2", "-o", f"data_file={other}").read_bytes())

    async def scenario() -> None:
        with pytest.raises(PathNotAllowed, match="it names an external data file"):
            await Machine.spawn("b", spec, None, tmp_path)

    anyio.run(scenario)


@pytest.mark.parametrize("before", [(), WITHOUT_LANDLOCK], ids=["landlock", "no landlock"])
def test_an_image_that_a_guest_writes_raw_is_nobody_elses_qcow2(user: Account, before: tuple[str, ...]) -> None:
    folder = user.home / "images"
    folder.mkdir()
    disk = image(folder / "disk", "-f", "qcow2")
    os.link(disk, folder / "alias")
    raw, qcow2 = {"path": str(disk)}, {"path": str(folder / "alias"), "format": "qcow2", "readonly": True}

    async def scenario() -> None:
        async with serving(user, "--image-dir", folder, before=before) as session:
            for first, second in ((raw, qcow2), (qcow2, raw)):
                await session.boot(name="a", network=False, extra_drives=[first], wait_for_prompt=False)
                with pytest.raises(ToolFailed, match=r"guest\.path_not_allowed.*the guest a has it as") as caught:
                    await session.boot(name="b", network=False, extra_drives=[second])
                assert "qemu_shutdown a first" in str(caught.value)
                await session.call("qemu_shutdown", name="a", timeout=0)
            await session.boot(name="b", network=False, extra_drives=[qcow2], wait_for_prompt=False)

    anyio.run(scenario)


def test_where_the_kernel_has_no_landlock_doctor_and_status_say_so(user: Account) -> None:
    async def told(before: tuple[str, ...]) -> tuple[str, str | None]:
        async with serving(user, before=before) as session:
            checks = (await session.call("qemu_doctor"))["checks"]
            (found,) = (check["found"] for check in checks if check["name"] == "landlock")
            await session.boot(network=False)  # it works all the same
            return found, (await session.call("qemu_status"))["unconfined"]

    found, lack = anyio.run(told, ())
    assert found.startswith(f"version {landlock.version()}")
    assert lack is None
    found, lack = anyio.run(told, WITHOUT_LANDLOCK)
    assert lack is not None
    assert lack in found
    assert "this kernel has no Landlock" in lack


# ------------------------------------------------------------ every child's ruleset


def test_each_child_is_kept_from_a_private_file(secret: Path) -> None:
    """By the complaint of the program itself, which the file's mode would let read it."""
    for command in (
        ["/usr/sbin/dnsmasq", "--test", f"--conf-file={secret}"],
        ["/usr/sbin/nft", "-c", "-f", str(secret)],
        ["/usr/bin/cat", str(secret)],
    ):
        done = children.run(command, "", Access(programs=(Path(command[0]),)))
        assert done.code != 0
        assert "Permission denied" in done.complaint
        assert "secret " not in done.out


def test_a_grant_is_for_that_file_and_that_use(tmp_path: Path) -> None:
    for name in ("read", "written", "else"):
        (tmp_path / name).write_text(name, encoding="ascii")
    (tmp_path / "folder").mkdir()
    access = Access(
        programs=(Path(PYTHON),), read=(tmp_path / "read",), write=(tmp_path / "written", tmp_path / "folder")
    )
    code = (
        "import os, sys\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "def may(*a):\n"
        "    try: os.close(os.open(*a)); return 1\n"
        "    except PermissionError: return 0\n"
        "R, W = os.O_RDONLY, os.O_RDWR\n"
        "print(may('read', R), may('read', W), may('written', W), may('written', W | os.O_TRUNC),\n"
        "      may('folder/new', W | os.O_CREAT), may('else', R), may('new', W | os.O_CREAT), may('.', R))\n"
    )
    assert python(code, access).out.split() == ["1", "0", "1", "1", "1", "0", "0", "0"]
    assert (tmp_path / "written").read_bytes() == b""


@pytest.mark.parametrize("alone", [False, True], ids=["with others", "alone"])
def test_a_program_that_is_alone_starts_no_other(alone: bool) -> None:
    shell = Path("/bin/sh").resolve()
    script = "/usr/bin/id -u; /usr/bin/env true; echo over"
    done = children.run([shell, "-c", script], "", Access(programs=(shell,), alone=alone))
    assert done.out.splitlines()[-1] == "over"
    assert (str(os.geteuid()) in done.out.split()) is not alone
    assert ("Permission denied" in done.complaint) is alone


def test_a_script_is_not_started_alone(tmp_path: Path) -> None:
    """Its interpreter would be another program; the script is one of a few bytes, and no ELF file."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n", encoding="ascii")
    script.chmod(0o755)
    with pytest.raises(PermissionError):
        children.run([script], "", Access(programs=(script,), alone=True))


def test_a_path_that_means_another_file_by_now_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(landlock.PathMoved, match="was resolved, and is"):
        children.run(["/bin/true"], "", Access(read=(tmp_path / "link",)))


def test_a_child_reaches_the_ports_that_it_was_given() -> None:
    code = (
        "import socket, errno\n"
        "def tries(way, port):\n"
        "    with socket.socket() as s:\n"
        "        try: getattr(s, way)(('127.0.0.1', port))\n"
        "        except OSError as error: return errno.errorcode[error.errno]\n"
        "        return 'ok'\n"
        "print(*(tries(way, port) for way in ('bind', 'connect') for port in (5301, 5302)))\n"
    )
    access = Access(programs=(Path(PYTHON),), listen=(5301,), connect=(5302,))
    assert python(code, access).out.split() == ["ok", "EACCES", "EACCES", "ECONNREFUSED"]
    assert python(code, HOME).out.split() == ["EACCES"] * 4


def test_a_child_reaches_no_process_and_no_nameless_socket_of_others() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0rawtap-test")
        listener.listen()
        code = (
            "import os, socket\n"
            "def tries(do, *a):\n"
            "    try: do(*a); return 'ok'\n"
            "    except PermissionError: return 'no'\n"
            "print(tries(os.kill, os.getppid(), 0), tries(os.kill, os.getpid(), 0),\n"
            "      tries(socket.socket(socket.AF_UNIX).connect, '\\0rawtap-test'))\n"
        )
        assert python(code, HOME).out.split() == ["no", "ok", "no"]


def test_what_a_child_inherits_is_its_own(secret: Path) -> None:
    """A descriptor works whatever it is of; one that was left inheritable by somebody does not come along."""
    passed, leaked = os.open(secret, os.O_RDONLY), os.open(secret, os.O_RDONLY)
    try:
        os.set_inheritable(leaked, True)
        code = f"import os; print(os.read({passed}, 10)); os.fstat({leaked})"
        command = [PYTHON, "-I", "-c", code]
        child = children.start(command, HOME, streams=("null", "pipe", "stdout"), passed=(passed,))
        assert child.stdout is not None
        with child.stdout:
            said = child.stdout.read().decode()
        assert child.wait() == 1
        assert "b'the secret'" in said
        assert "Bad file descriptor" in said
    finally:
        os.close(passed)
        os.close(leaked)


def test_a_program_beside_its_folders_finds_them(tmp_path: Path) -> None:
    """Not all programs are the system's: one in a folder bin has its libraries, and nothing else that is there."""
    for name in ("bin", "lib", "etc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name, encoding="ascii")
    program = tmp_path / "bin/program"
    text = f"#!/bin/sh\ncat {tmp_path}/lib/file {tmp_path}/etc/file {tmp_path}/bin/file\n"
    program.write_text(text, encoding="ascii")
    program.chmod(0o755)
    done = children.run([program], "", Access(programs=(program,)))
    assert done.out == "lib"
    assert done.complaint.count("Permission denied") == 2


# ------------------------------------------------------------------- start and end


def test_a_program_that_cannot_be_started_is_told_with_the_step(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch(mode=0o644)
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: children.start([tmp_path / "none"], HOME), "No such file or directory, at the program itself"),
        (lambda: children.start([plain], HOME), "Permission denied, at the program itself"),
        (lambda: children.start(["/bin/true"], HOME, folder="/none"), "No such file or directory, at its folder"),
        (lambda: children.start(["/bin/true"], HOME, passed=(12345,)), "Bad file descriptor, at its descriptors"),
    ]
    for attempt, text in wrong:
        with pytest.raises(OSError, match=text):
            attempt()
    assert not [pid for pid in descendants_of(os.getpid()) if str(tmp_path) in command_of(pid)]


def test_a_child_has_no_capability_and_gets_none(anyone: Account) -> None:
    """Root's as well: of what they could get back, nothing is left."""
    code = (
        "from pathlib import Path\n"
        "from rawtap.host import children\n"
        "from rawtap.host.landlock import Access\n"
        "from rawtap.host.privileges import Capability\n"
        "command = ['/bin/grep', '-E', 'Cap(Inh|Prm|Eff|Amb)|NoNew', '/proc/self/status']\n"
        "for kept in ((), (Capability.NET_ADMIN,)):\n"
        "    print(children.run(command, '', Access(read=(Path('/proc'),)), capabilities=kept).out)\n"
    )
    interpreter = Path(sys.prefix) / "bin" / "python-rawtap"
    done = subprocess.run(
        anyone.command(interpreter, "-I", "-c", code), capture_output=True, text=True, check=True
    ).stdout.split()
    none, admin = f"{0:016x}", f"{1 << 12:016x}"
    assert done[1::2] == [none] * 4 + ["1"] + [admin] * 4 + ["1"]


def test_a_server_whose_starter_ignores_the_end_of_children_sees_its_own(user: Account) -> None:
    async def scenario() -> None:
        ignore = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
        ignoring = f"import os, signal, sys; {ignore}; os.execvp(sys.argv[1], sys.argv[1:])"
        async with serving(user, before=(sys.executable, "-c", ignoring)) as session:
            await session.boot(network=False, wait_for_prompt=False)
            assert (await session.call("qemu_shutdown", timeout=0))["exit_code"] == 0

    anyio.run(scenario)


def test_a_tied_child_ends_with_its_starter(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "from rawtap.host import children\n"
        "from rawtap.host.landlock import Access\n"
        "print(children.start(['/bin/sleep', '1000'], Access()).pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, cwd=tmp_path) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert exists(pid)
        starter.kill()
    assert eventually(lambda: not exists(pid))


def test_a_child_begins_with_the_signals_of_a_fresh_process() -> None:
    """SIGPIPE, which Python ignores, and a handler of ours: neither is the child's."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        done = children.run(["/bin/cat", "/proc/self/status"], "", Access(read=(Path("/proc"),)))
    finally:
        signal.signal(signal.SIGUSR1, before)
    found = dict(line.split(":\t") for line in done.out.splitlines() if line.startswith("Sig"))
    assert int(found["SigBlk"], 16) == int(found["SigCgt"], 16) == 0
    assert not int(found["SigIgn"], 16) >> (signal.SIGPIPE - 1) & 1
