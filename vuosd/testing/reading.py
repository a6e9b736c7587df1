"""What every file system must do when it is looked at and read: functions of a Place, AssertionError when
it does not."""

import errno
import os
import random
import stat
from collections.abc import Iterator

from vuosd.testing.place import Place, Status

_MOST = 400  # objects looked at: a file system may hold millions
_LARGEST = 4 << 20  # of a file read whole


def walk(place: Place, top: str = "/", most: int = _MOST) -> Iterator[tuple[str, Status]]:
    """Paths and what they are, the first `most` of them, breadth first."""
    waiting = [top]
    while waiting and most > 0:
        path = waiting.pop(0)
        status = place.lstat(path)
        most -= 1
        yield path, status
        if stat.S_ISDIR(status.mode):
            waiting += [f"{path.rstrip('/')}/{name}" for name in place.names(path)]


def root(place: Place) -> None:
    """The root is a directory, and its statfs can be asked."""
    assert stat.S_ISDIR(place.lstat("/").mode), "the root is no directory"
    size, blocks, free = place.statfs()
    assert size > 0
    assert free <= blocks


def listings(place: Place) -> None:
    """A listing names each entry once, the same ones each time, with the inode number and type that lstat
    tells."""
    for path, status in walk(place):
        if not stat.S_ISDIR(status.mode):
            continue
        entries = place.listdir(path)
        names = [name for name, _, _ in entries]
        assert {".", ".."} <= set(names), f"{path}: no . and .. in the listing"
        assert len(names) == len(set(names)), f"{path}: names listed twice"
        assert sorted(names) == sorted(name for name, _, _ in place.listdir(path)), (
            f"{path}: listed differently"
        )
        for name, ino, kind in entries[:_MOST]:
            if name not in (".", ".."):
                told = place.lstat(f"{path.rstrip('/')}/{name}")
                assert ino == told.ino, f"{path}/{name}: inode {ino} in the listing, {told.ino} by lstat"
                assert kind in (0, stat.S_IFMT(told.mode)), f"{path}/{name}: of another type in the listing"


def numbers(place: Place) -> None:
    """Two names have one inode number only if they are one file; a number stays the same."""
    seen: dict[int, str] = {}
    for path, status in walk(place):
        assert place.lstat(path).ino == status.ino, f"{path}: its inode number changes"
        assert stat.S_ISDIR(status.mode) or status.nlink > 0, f"{path}: nlink 0"
        if status.nlink == 1 or stat.S_ISDIR(status.mode):
            assert status.ino not in seen, f"{path} and {seen[status.ino]} have one inode number"
            seen[status.ino] = path


def links(place: Place) -> None:
    """A symbolic link leads somewhere, and its size is that of its target."""
    for path, status in walk(place):
        if stat.S_ISLNK(status.mode):
            target = place.readlink(path)
            assert target, f"{path} is a link to nowhere"
            assert status.size in (0, len(os.fsencode(target))), (
                f"{path}: size {status.size}, target {target!r}"
            )


def contents(place: Place) -> None:
    """A file has as many bytes as it says; a part of it is the same read alone; behind its end there is
    nothing."""
    chance = random.Random(7)  # noqa: S311
    for path, status in walk(place):
        if not stat.S_ISREG(status.mode) or status.size > _LARGEST:
            continue
        whole = place.read(path, status.size or _LARGEST)
        # Files that are made when they are read have size 0, as those of /proc.
        assert status.size in (0, len(whole)), f"{path}: size {status.size}, but {len(whole)} bytes"
        with place.open(path) as file:
            for _ in range(4):
                start = chance.randint(0, len(whole))
                size = chance.randint(1, 5000)
                assert file.pread(size, start) == whole[start : start + size], f"{path}: differs from {start}"
            assert file.pread(10, len(whole)) == b"", f"{path}: something behind the end"
            assert file.pread(10, len(whole) + 100_000) == b"", f"{path}: something far behind the end"


def absent(place: Place) -> None:
    """Names that are not there."""
    for name, number in (
        ("no such name", errno.ENOENT),
        ("n" * 255, errno.ENOENT),
        ("n" * 256, errno.ENAMETOOLONG),
    ):
        for call in (place.lstat, place.open, place.readlink, place.listdir):
            refused(number, call, f"/{name}")
    for path, status in walk(place):
        if stat.S_ISREG(status.mode):
            refused(errno.ENOTDIR, place.lstat, f"{path}/below")
            refused(errno.ENOTDIR, place.listdir, path)
            refused(errno.EINVAL, place.readlink, path)
            break


def refuses_changes(place: Place) -> None:
    """A read-only file system says EROFS to every change, and is the same afterwards."""
    before = list(walk(place))
    refused(errno.EROFS, place.mkdir, "/new directory")
    refused(errno.EROFS, place.open, "/new file", os.O_WRONLY | os.O_CREAT)
    refused(errno.EROFS, place.symlink, "target", "/new link")
    refused(errno.EROFS, place.chmod, "/", 0o700)
    refused(errno.EROFS, place.utimens, "/", 0, 0)
    for path, status in before[1:]:
        refused(errno.EROFS, place.rename, path, "/new name")
        refused(errno.EROFS, place.rmdir if stat.S_ISDIR(status.mode) else place.unlink, path)
        if stat.S_ISREG(status.mode):
            refused(errno.EROFS, place.open, path, os.O_WRONLY)
            refused(errno.EROFS, place.truncate, path, 0)
            refused(errno.EROFS, place.link, path, "/new name")
            break
    after = list(walk(place))
    differ = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
    assert after == before, f"it is not the same afterwards: {differ}"


def refused(number: int, call: object, *arguments: object) -> None:
    """The call fails with this errno."""
    assert callable(call)
    said = f"{getattr(call, '__name__', call)}{arguments}"
    got = None
    try:
        call(*arguments)
    except OSError as error:
        got = error.errno
    told = "no error" if got is None else errno.errorcode.get(got, str(got))
    assert got == number, f"{said}: {told}, not {errno.errorcode[number]}"
