"""Which host files a guest may be given: what lies outside is refused before anything is asked of it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from rawtap.errors import GuestNotFound, PathNotAllowed, ProfileInvalid
from rawtap.guest import paths
from rawtap.guest.builtin import BUILTIN
from rawtap.guest.hardware import Drive
from rawtap.guest.paths import RVOS_KERNEL, Allowed, allowed_for, lack_of_project, require_lone
from rawtap.guest.profile import BootOptions, Profile
from rawtap.guest.projects import choose
from rawtap.guest.resolving import resolve


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "rawtap.toml").write_text("", encoding="utf-8")
    (root / "k").write_bytes(b"")
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_bytes(b"")
    return path


def kernel_of(root: Path, text: str, *image_dirs: Path) -> Path | None:
    return resolve(root, Profile(kernel=text), BootOptions(), allowed_for(root, image_dirs)).kernel


def test_a_file_of_the_project_is_given_by_its_resolved_path(project: Path) -> None:
    (project / "link").symlink_to("k")
    for text in ("k", "./k", "../project/k", str(project / "k"), "link"):
        assert kernel_of(project, text) == project.resolve() / "k"


@pytest.mark.parametrize("text", ["../outside/secret", "/etc/passwd", "/nowhere", "../outside/none", "../project-2/k"])
@pytest.mark.usefixtures("outside")
def test_a_path_outside_is_refused_whether_it_exists_or_not(project: Path, text: str) -> None:
    with pytest.raises(PathNotAllowed) as raised:
        kernel_of(project, text)
    said = str(raised.value)
    assert said.startswith(f"guest.path_not_allowed: the kernel {project / text} may not be used")
    assert f"allowed folders: {project}, /usr/lib/u-boot" in said
    assert "--image-dir" in said


def test_a_link_out_of_the_project_is_refused(project: Path, outside: Path) -> None:
    (project / "file").symlink_to(outside / "secret")
    (project / "folder").symlink_to(outside)
    for text in ("file", "folder/secret", "folder/missing"):
        with pytest.raises(PathNotAllowed, match="a link leads out of them"):
            kernel_of(project, text)


def test_links_in_a_circle_outside_are_refused_like_all_else_there(project: Path, outside: Path) -> None:
    (outside / "circle").symlink_to("circle")
    (project / "to it").symlink_to(outside / "circle")
    (project / "own").symlink_to("own")
    for text in (str(outside / "circle"), str(outside / "circle/x"), "to it"):
        with pytest.raises(PathNotAllowed):
            kernel_of(project, text)
    with pytest.raises(GuestNotFound):
        kernel_of(project, "own")


def test_dots_are_followed_as_the_kernel_follows_them(project: Path, outside: Path) -> None:
    (outside / "deep").mkdir()
    (project / "folder").symlink_to(outside / "deep")
    with pytest.raises(PathNotAllowed):
        kernel_of(project, "folder/../secret")


def test_drives_and_firmware_are_held_to_the_same(project: Path, outside: Path) -> None:
    secret = str(outside / "secret")
    allowed = allowed_for(project, ())
    for profile in (
        Profile(kernel="k", drives=(Drive(path=secret),)),
        Profile(kernel="k", drives=(Drive(path=secret, optional=True),)),
        Profile(kernel="k", drives=(Drive(path=str(outside / "missing"), optional=True),)),
        Profile(kernel="k", firmware=secret),
        Profile(kernel="k", initrd=secret),
    ):
        with pytest.raises(PathNotAllowed):
            resolve(project, profile, BootOptions(), allowed)
    with pytest.raises(PathNotAllowed):
        resolve(project, Profile(kernel="k"), BootOptions(kernel=secret), allowed)
    with pytest.raises(PathNotAllowed):
        resolve(project, Profile(kernel="k"), BootOptions(extra_drives=(Drive(path=secret),)), allowed)


def test_an_initrd_names_one_file_and_no_further_one(project: Path, outside: Path) -> None:
    hidden = project / f"x,{outside}/secret"  # to QEMU, with a multiboot kernel: x, and that one of the host's
    hidden.parent.mkdir(parents=True)
    hidden.touch()
    with pytest.raises(PathNotAllowed, match=r"there is .,. in its path"):
        resolve(project, Profile(kernel="k", initrd=str(hidden)), BootOptions(), allowed_for(project, ()))


def test_the_operator_can_allow_a_folder_by_any_of_its_names(project: Path, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(outside)
    for folder in (outside, tmp_path / "alias"):
        assert kernel_of(project, str(tmp_path / "alias/secret"), folder) == outside / "secret"


def test_the_built_in_boot_loaders_are_allowed_to_everybody(tmp_path: Path) -> None:
    allowed = allowed_for(Path("/"), ())
    for name in (each for each in BUILTIN if each.startswith("u-boot-")):
        root, (profile, _) = choose(None, name)
        resolve(root, profile, BootOptions(), allowed)
    with pytest.raises(PathNotAllowed):
        resolve(tmp_path, Profile(kernel="/usr/lib/u-boot/../os-release"), BootOptions(), allowed)


def test_a_folder_that_says_nothing_is_no_project(project: Path, outside: Path) -> None:
    assert lack_of_project(project) == ""
    assert "it has no rawtap.toml" in lack_of_project(outside)
    assert "nor built files that are theirs, of rvos, xv6-riscv-net, " in lack_of_project(outside)
    with pytest.raises(PathNotAllowed, match="is no project"):
        kernel_of(outside, "secret")


def test_an_rvos_kernel_makes_a_project(tmp_path: Path) -> None:
    kernel = tmp_path / "rvos" / RVOS_KERNEL
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"")
    assert lack_of_project(tmp_path / "rvos") == ""


def test_an_rvos_tree_that_is_not_built_is_told_so(outside: Path) -> None:
    root, (profile, _) = choose(outside, "rvos")
    with pytest.raises(GuestNotFound, match=f"the kernel {outside}/{RVOS_KERNEL} is not there"):
        resolve(root, profile, BootOptions(), allowed_for(outside, ()))


def test_no_folder_that_holds_the_users_home_is_a_project(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "rawtap.toml").write_text("", encoding="utf-8")
    (tmp_path / "rawtap.toml").write_text("", encoding="utf-8")
    (tmp_path / "alias").symlink_to(home)
    for folder in (home, tmp_path, Path("/"), tmp_path / "alias"):
        assert "it holds the home" in lack_of_project(folder)


def test_a_project_file_of_somebody_else_makes_no_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by another user: the file's owner stays who it is."""
    owner = (project / "rawtap.toml").stat().st_uid
    if owner == 0:
        os.chown(project / "rawtap.toml", 1234, -1)
    else:
        monkeypatch.setattr(paths.os, "geteuid", lambda: owner + 1)
    assert "of the server's user" in lack_of_project(project)


def test_a_project_file_that_is_a_link_out_of_its_folder_is_not_read(project: Path, outside: Path) -> None:
    (outside / "secret").write_text("root:x:0", encoding="utf-8")
    (project / "rawtap.toml").unlink()
    (project / "rawtap.toml").symlink_to(outside / "secret")
    with pytest.raises(PathNotAllowed, match="link out of its folder") as raised:
        choose(project, None)
    assert "root:x" not in str(raised.value)


def test_a_folder_as_an_image_is_missing_and_no_more(project: Path) -> None:
    with pytest.raises(GuestNotFound):
        Allowed((project.resolve(),)).resolved(project, "a\0b", "kernel")
    with pytest.raises((GuestNotFound, ProfileInvalid)):
        kernel_of(project, ".")


def qcow2(path: Path, *, version: int = 3, backing: int = 0, features: int = 0) -> Path:
    """The head of an image (qemu/docs/interop/qcow2.txt): an offset of a backing file's name, and features."""
    path.write_bytes(struct.pack(">4sIQ56xQ24x", b"QFI\xfb", version, backing, features))
    return path


def test_a_qcow2_image_that_names_further_files_is_refused(project: Path) -> None:
    with pytest.raises(PathNotAllowed, match="it names a backing file"):
        require_lone(qcow2(project / "a", backing=104))
    with pytest.raises(PathNotAllowed, match="it names a backing file"):
        require_lone(qcow2(project / "a", version=2, backing=72))
    with pytest.raises(PathNotAllowed, match="it names an external data file"):
        require_lone(qcow2(project / "a", features=4))
    with pytest.raises(PathNotAllowed, match="qemu-img convert"):
        resolve(
            project,
            Profile(kernel="k", drives=(Drive(path="a", format="qcow2"),)),
            BootOptions(),
            allowed_for(project, ()),
        )


def test_a_qcow2_image_of_its_own_is_taken(project: Path) -> None:
    require_lone(qcow2(project / "a"))
    require_lone(qcow2(project / "a", features=1))  # dirty
    require_lone(qcow2(project / "a", version=2, features=4))  # whose header ends before
    (project / "a").write_bytes(b"QFI")
    require_lone(project / "a")


def test_a_tree_whose_files_are_links_in_a_circle_is_no_project(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for name in (paths.CONFIG_FILE, *(file for files in paths.LAYOUTS.values() for file in files)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(Path(name).name)
    assert "it has no rawtap.toml" in lack_of_project(root)
    assert paths.layout_of(root) is None


def test_a_path_that_cannot_be_asked_about_holds_nothing() -> None:
    for text in ("a\0b", "x" * 5000):
        assert not paths.holds(Path(text), lambda path: path.stat().st_size >= 0)
