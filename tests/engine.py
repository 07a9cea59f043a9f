"""What a container engine does, by other means: carries out a Containerfile, and runs what came of it.

No engine is needed: a base made by debootstrap stands for the image that FROM names, mounts and pivot_root(2) for its
mounts, unshare(1) for its namespaces and setpriv(1) for its capabilities. What an engine has besides, a seccomp filter,
an AppArmor or SELinux profile and cgroups, is not there.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What podman gives a container without being asked (containers.conf(5), default_capabilities); docker gives NET_RAW,
# MKNOD and AUDIT_WRITE besides.
DEFAULT_CAPABILITIES = frozenset(
    {"chown", "dac_override", "fowner", "fsetid", "kill", "net_bind_service"}
    | {"setfcap", "setgid", "setpcap", "setuid", "sys_chroot"}
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # the way to the package index may need what is trusted here
_SUITES = {"debian:12-slim": "bookworm"}
_PLAIN = {"ENV", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD", "ARG"}


@dataclass(frozen=True)
class Instruction:
    """A line of a Containerfile, its continuations joined."""

    keyword: str
    rest: str


def instructions_of(text: str) -> list[Instruction]:
    """Those of a Containerfile (Containerfile(5))."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Instruction(line.split(maxsplit=1)[0].upper(), line.split(maxsplit=1)[1]) for line in whole]


@dataclass
class Image:
    """A root file system and how to run it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def ids(self) -> tuple[str, str]:
        """The user's and the group's number, by the image's own table (passwd(5))."""
        table = (line.split(":") for line in (self.root / "etc/passwd").read_text(encoding="utf-8").splitlines())
        return next((entry[2], entry[3]) for entry in table if entry[0] == self.user)


class Build:
    """Carries out a Containerfile, an instruction at a time; what it runs is in the network namespace `network`."""

    def __init__(self, context: Path, folder: Path, network: str) -> None:
        self._context, self._folder = context, folder
        self._outside = ["nsenter", f"--net={network}", "--"]
        self._stages: dict[str, Image] = {}
        self._image = Image(folder)
        self._arguments: dict[str, str] = {}

    def run(self, text: str) -> Image:
        """The last stage's image."""
        for instruction in instructions_of(text):
            carry_out = {"FROM": self._from, "COPY": self._copy, "RUN": self._run}.get(instruction.keyword)
            if carry_out:
                carry_out(instruction.rest)
            elif instruction.keyword in _PLAIN:
                self._note(instruction)
            else:
                raise ValueError(f"an instruction that is not known here: {instruction.keyword}")
        return self._image

    def _from(self, rest: str) -> None:
        base, *named = rest.split()
        made = self._folder / f"stage{len(self._stages)}"
        subprocess.run(["cp", "-a", "--reflink=auto", self._base(base), made], check=True)
        self._image, self._arguments = Image(made), {}
        self._stages[named[1] if named else made.name] = self._image

    def _base(self, name: str) -> Path:
        root = self._folder / "base"
        if not root.exists():
            unpack(_SUITES[name], root)
        return root

    def _copy(self, rest: str) -> None:
        words = shlex.split(rest)
        source = self._context
        if words[0].startswith("--from="):
            source = self._stages[words.pop(0).removeprefix("--from=")].root
        target = self._image.root / words[-1].lstrip("/")
        for word in words[:-1]:
            found = source / word.lstrip("/")
            inside = target if found.is_dir() or not words[-1].endswith("/") else target / found.name
            inside.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "--no-preserve=ownership", "-T", found, inside], check=True)

    def _run(self, rest: str) -> None:
        with mounted(self._image.root):
            environment = self._arguments | self._image.environment
            subprocess.run([*self._outside, *shell_in(self._image.root, rest, environment)], check=True)

    def _note(self, instruction: Instruction) -> None:
        image, rest = self._image, instruction.rest
        match instruction.keyword:
            case "ENV" | "ARG":
                name, _, value = shlex.split(rest)[0].partition("=")
                (image.environment if instruction.keyword == "ENV" else self._arguments)[name] = value
            case "USER":
                image.user = rest
            case "WORKDIR":
                image.folder = rest
            case "ENTRYPOINT":
                image.entrypoint = json.loads(rest)
            case "CMD":
                image.command = json.loads(rest)


def unpack(suite: str, root: Path) -> None:
    """A system that has what every Debian of this suite has, and nothing more; test.sh made the archive."""
    root.mkdir(parents=True)
    subprocess.run(["tar", "-C", root, "-xf", Path(sys.prefix, "roots", f"{suite}.tar")], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")


def shell_in(root: Path, command: str, environment: Mapping[str, str]) -> list[str]:
    """A command line that has root's shell in a `mounted` root run `command`, with this environment and no other."""
    given = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    if _CERTIFICATES.exists():  # a copy: what runs in there may change its own, and must not change the machine's
        shutil.copy(_CERTIFICATES, root / "dev/certificates")
        given |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), "/dev/certificates")
    inside = ["/usr/bin/env", "-i", *_assignments(given | dict(environment)), "/bin/sh", "-c", command]
    return ["chroot", str(root), *inside]


def _assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


@contextlib.contextmanager
def mounted(root: Path) -> Iterator[None]:
    """/proc and a few devices in `root`, for the time of a build's step."""
    with contextlib.ExitStack() as stack:
        for kind, place in (("proc", root / "proc"), ("tmpfs", root / "dev")):
            subprocess.run(["mount", "-t", kind, kind, place], check=True)
            stack.callback(subprocess.run, ["umount", "-l", place], check=True)
        for name in _DEVICES:
            subprocess.run(["cp", "-a", f"/dev/{name}", root / "dev"], check=True)
        (root / "dev/fd").symlink_to("/proc/self/fd")
        yield


# $1: the root; $2: the bounding set; $3 and $4: who; $5: where. Then the command.
_START = """
set -eu
root=$1 bounding=$2 user=$3 group=$4 folder=$5
shift 5
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o nosuid,mode=755 tmpfs dev
mount -t tmpfs tmpfs tmp
chmod 1777 tmp
for name in null zero full random urandom tty; do cp -a "/dev/$name" dev; done
ln -s /proc/self/fd dev/fd
mkdir dev/net
mknod -m 0666 dev/net/tun c 10 200
ip link set lo up
mkdir -p mnt/old
pivot_root . mnt/old
exec chroot . /bin/sh -c 'umount -l /mnt/old; cd "$0"; exec "$@"' "$folder" \
  setpriv --bounding-set="$bounding" --inh-caps=-all -- \
  setpriv --reuid="$user" --regid="$group" --clear-groups -- "$@"
"""


def command_in(
    image: Image,
    *arguments: str,
    add: frozenset[str] = frozenset(),
    drop: frozenset[str] = frozenset(),
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """A command line that runs the image as an engine does: ``run --cap-add ... --device /dev/net/tun IMAGE``.

    It has namespaces of its own for mounts, network, processes, IPC and the host's name.
    """
    bounding = ",".join(["-all", *(f"+{name}" for name in sorted((DEFAULT_CAPABILITIES | add) - drop))])
    inside = {**image.environment, "HOME": f"/home/{image.user}", **(environment or {})}
    unshare = ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--"]
    start = ["/bin/sh", "-c", _START, "sh", str(image.root), bounding, *image.ids(), image.folder]
    program = [*image.entrypoint, *(arguments or image.command)]
    return [*unshare, *start, "/usr/bin/env", "-i", *_assignments(inside), *program]
