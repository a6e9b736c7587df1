"""Types that are programs of the system: each is started on an image made here, and read through the
kernel."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vuosd.api import OptionError, TypeProblem, find
from vuosd.fuse.kernel import mount


def tree(place: Path) -> Path:
    (place / "tree/directory").mkdir(parents=True)
    (place / "tree/directory/file").write_bytes(b"contents\n" * 1000)
    return place / "tree"


def ext4(place: Path, offset: int = 0) -> Path:
    image = place / "ext4"
    options = f"offset={offset}" if offset else "lazy_itable_init=1"
    image.touch()
    os.truncate(image, offset + (8 << 20))
    subprocess.run(
        ["/sbin/mke2fs", "-q", "-t", "ext4", "-d", tree(place), "-E", options, image, "8M"], check=True
    )
    return image


def squashfs(place: Path) -> Path:
    subprocess.run(["mksquashfs", tree(place), place / "image", "-quiet", "-no-progress"], check=True)
    return place / "image"


def fat(place: Path) -> Path:
    image = place / "fat"
    subprocess.run(["/sbin/mkfs.fat", "-C", image, "4096"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mcopy", "-s", "-i", image, tree(place) / "directory", "::/directory"], check=True)
    return image


def iso(place: Path) -> Path:
    subprocess.run(["genisoimage", "-quiet", "-R", "-o", place / "image", tree(place)], check=True)
    return place / "image"


def zipped(place: Path) -> Path:
    subprocess.run(["zip", "-qr", place / "image.zip", "."], cwd=tree(place), check=True)
    return place / "image.zip"


IMAGES: dict[str, Callable[[Path], Path]] = {
    "ext2": ext4,
    "ext4": ext4,
    "squashfs": squashfs,
    "fat": fat,
    "iso": iso,
    "zip": zipped,
    "bindfs": tree,
}


@contextmanager
def served(name: str, source: Path, options: str, place: Path) -> Iterator[Path]:
    """A place where the file system is seen: what a mounter does, whichever way the type needs."""
    kind = find(name)
    if kind.needs_mount:
        place.mkdir()
        server = kind.command(str(source), str(place), options)
        assert not server.pass_fds
        # A namespace of its own, in which it mounts; its root is reached through /proc.
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--", *server.argv],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        seen = Path(f"/proc/{process.pid}/root{place}")
        wait(lambda: os.stat(seen).st_dev != os.stat(place).st_dev, process)
        try:
            yield seen
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
            assert process.stderr is not None
            process.stderr.close()
        return
    mounted = mount(find(name).command(str(source), "/dev/fd/9", options).kernel)
    server = kind.command(str(source), f"/dev/fd/{mounted.fuse}", options)
    process = subprocess.Popen(server.argv, pass_fds=server.pass_fds, stderr=subprocess.PIPE)
    mounted.close_fuse()
    try:
        yield Path(f"/proc/self/fd/{mounted.root}")
    finally:
        mounted.close()
        assert process.wait(10) == 0
        assert process.stderr is not None
        process.stderr.close()


def wait(true: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Until the server has mounted: there is no other sign of it."""
    import select
    import time

    for _ in range(1000):
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(process.stderr.read().decode())
        if true():
            return
        select.select([], [], [], 0.01)
    raise TimeoutError(time.strftime("not mounted at %X"))


@pytest.mark.parametrize("name", IMAGES)
def test_read(name: str, tmp_path: Path) -> None:
    source = IMAGES[name](tmp_path)
    with served(name, source, "" if name in ("iso", "squashfs") else "ro", tmp_path / "mnt") as seen:
        assert (seen / "directory/file").read_bytes() == b"contents\n" * 1000
        assert "directory" in os.listdir(seen)


@pytest.mark.parametrize("name", ["ext4", "fat", "zip"])
def test_written(name: str, tmp_path: Path) -> None:
    source = IMAGES[name](tmp_path)
    with served(name, source, "", tmp_path / "mnt") as seen:
        (seen / "directory/new").write_bytes(b"new")
    with served(name, source, "ro", tmp_path / "again") as seen:
        assert (seen / "directory/new").read_bytes() == b"new"


def test_offset(tmp_path: Path) -> None:
    with served("ext4", ext4(tmp_path, offset=1 << 20), "ro,offset=1M", tmp_path / "mnt") as seen:
        assert (seen / "directory/file").exists()


def test_programs_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("vuosd.api.types._MORE_PLACES", "")
    for name, package in (
        ("ext4", "fuse2fs"),
        ("squashfs", "squashfuse"),
        ("iso", "fuseiso"),
        ("sshfs", "sshfs"),
    ):
        with pytest.raises(
            TypeProblem, match=f"type {name} needs the program .*: Debian's package {package}$"
        ):
            find(name).command("/dev/null", str(tmp_path))


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(TypeProblem, match="ext4: /missing: no such file"):
        find("ext4").command("/missing", str(tmp_path))
    with pytest.raises(OptionError, match='ext4 has no option "offest"; did you mean "offset"'):
        find("ext4").command("/dev/null", str(tmp_path), "offest=3")
    with pytest.raises(OptionError, match='option "offset" cannot be "-1"'):
        find("squashfs").command("/dev/null", str(tmp_path), "offset=-1")
    (tmp_path / "text").write_text("no image\n" * 1000)
    for source in ("text", "empty"):
        (tmp_path / source).touch()
        with pytest.raises(TypeProblem, match=f"{source} is no image of type fat"):
            find("fat").command(str(tmp_path / source), str(tmp_path))
    if find("fat").needs_mount:
        with pytest.raises(
            TypeProblem, match="fat: fusefat is linked with libfuse 2, so it must mount itself"
        ):
            find("fat").command("/dev/null", "/dev/fd/3")


def test_sshfs_is_told_how_to_connect() -> None:
    server = find("sshfs").command(
        "ada@host:dir", "/dev/fd/5", "port=2222,ssh=StrictHostKeyChecking=yes,ssh=User=x"
    )
    assert server.argv[1:] == (
        *("ada@host:dir", "/dev/fd/5", "-f", "-o", "port=2222"),
        *("-o", "StrictHostKeyChecking=yes", "-o", "User=x"),
    )
    assert server.pass_fds == (5,)
    assert server.kernel == ()
    assert find("sshfs").command("host:", "/dev/fd/5").argv[1:] == ("host:", "/dev/fd/5", "-f")
