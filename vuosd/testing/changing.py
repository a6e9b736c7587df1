"""What every file system that can be changed must do: functions of a Place, which make what they need below
"/conformance".

Each is about the methods its name says (`NEEDS`): one that a file system does not have is not asked for.
"""

import errno
import os
import stat
from collections.abc import Callable

from vuosd.testing.place import Place
from vuosd.testing.reading import refused

TOP = "/conformance"
_NOREPLACE, _EXCHANGE = 1, 2
_XATTR_CREATE, _XATTR_REPLACE = 1, 2

Check = Callable[[Place], None]
NEEDS: dict[Check, tuple[str, ...]] = {}


def _needs(*methods: str) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        NEEDS[check] = methods
        return check

    return note


@_needs("open", "unlink")
def files(place: Place) -> None:
    """A file that is written reads as it was written, also in parts, with holes, and with what O_CREAT,
    O_EXCL, O_TRUNC and O_APPEND mean."""
    path = f"{TOP}/file"
    data = bytes(range(256)) * 1025
    place.write(path, data)
    assert place.read(path) == data
    assert place.lstat(path).size == len(data)
    refused(errno.EEXIST, place.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with place.open(path, os.O_RDWR) as file:
        assert file.pwrite(b"middle", 1000) == 6
        assert file.pread(8, 999) == data[999:1000] + b"middle" + data[1006:1007]
        file.pwrite(b"end", len(data) + 70000)
        assert file.fstat().size == len(data) + 70003
    assert place.read(path)[len(data) :] == bytes(70000) + b"end"
    with place.open(path, os.O_WRONLY | os.O_TRUNC) as file:
        assert file.fstat().size == 0
    for word in (b"one", b"two"):
        with place.open(path, os.O_WRONLY | os.O_APPEND) as file:
            file.pwrite(word, 0)
    assert place.read(path) == b"onetwo"
    place.unlink(path)
    refused(errno.ENOENT, place.lstat, path)


@_needs("open", "unlink")
def sizes(place: Place) -> None:
    """truncate and ftruncate: shorter, and longer with zeros."""
    path = f"{TOP}/size"
    place.write(path, b"0123456789")
    place.truncate(path, 4)
    assert place.read(path) == b"0123"
    place.truncate(path, 8)
    assert place.read(path) == b"0123\0\0\0\0"
    with place.open(path, os.O_RDWR) as file:
        file.ftruncate(2)
        assert (file.fstat().size, file.pread(10, 0)) == (2, b"01")
        file.ftruncate(5000)
        file.fsync()
    assert place.lstat(path).size == 5000
    assert place.read(path) == b"01" + bytes(4998)
    place.unlink(path)


@_needs("open", "unlink")
def open_and_removed(place: Place) -> None:
    """A file goes on being what it is for those who have it open when its name is removed, and a new one of
    that name is another."""
    path = f"{TOP}/removed"
    place.write(path, b"old")
    with place.open(path, os.O_RDWR) as file:
        place.unlink(path)
        refused(errno.ENOENT, place.lstat, path)
        place.write(path, b"something new")
        assert file.pread(10, 0) == b"old"
        assert file.fstat().nlink == 0
        file.pwrite(b"er and longer", 3)
        assert file.fstat().size == 16
        file.ftruncate(5)
        assert (file.fstat().size, file.pread(10, 0)) == (5, b"older")
    assert place.read(path) == b"something new"
    place.unlink(path)


@_needs("mkdir", "rmdir")
def directories(place: Place) -> None:
    """Directories are made empty, removed empty, and listed whole, however many entries they have."""
    path = f"{TOP}/directory"
    place.mkdir(path)
    refused(errno.EEXIST, place.mkdir, path)
    names = [f"{number:04}-{'x' * (number % 60)}" for number in range(100)]
    for name in names:
        place.mkdir(f"{path}/{name}")
    assert place.names(path) == names
    refused(errno.ENOTEMPTY, place.rmdir, path)
    for name in names:
        place.rmdir(f"{path}/{name}")
    assert place.names(path) == []
    place.rmdir(path)
    refused(errno.ENOENT, place.listdir, path)


@_needs("open", "unlink", "rename")
def renames(place: Place) -> None:
    """A rename keeps the inode number and open files, and replaces what is there, which stays what it is
    for those who have it open."""
    a, b = f"{TOP}/a", f"{TOP}/b"
    place.write(a, b"1")
    place.write(b, b"22")
    ino = place.lstat(a).ino
    with place.open(a, os.O_RDWR) as file, place.open(b) as replaced:
        place.rename(a, b)
        refused(errno.ENOENT, place.lstat, a)
        assert place.lstat(b).ino == ino
        file.pwrite(b"3", 0)
        file.fsync()
        assert place.read(b) == b"3"
        assert replaced.pread(9, 0) == b"22"
    assert place.read(b) == b"3"
    refused(errno.ENOENT, place.rename, a, f"{TOP}/c")
    place.unlink(b)


@_needs("open", "unlink", "mkdir", "rmdir", "rename")
def renames_of_directories(place: Place) -> None:
    """A directory moves with all that is below, also over an empty one; or it is EXDEV, and the caller
    copies."""
    a, b = f"{TOP}/a", f"{TOP}/b"
    place.mkdir(a)
    place.mkdir(f"{a}/deep")
    place.write(f"{a}/deep/file", b"1")
    refused(errno.EINVAL, place.rename, a, f"{a}/deep/inside")
    place.mkdir(b)
    try:
        place.rename(a, b)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        assert (place.names(a), place.names(b)) == (["deep"], [])
        place.rename(f"{a}/deep/file", f"{b}/file")
        place.rename(f"{b}/file", f"{a}/deep/file")
        place.rmdir(b)
        a, b = b, a
    else:
        refused(errno.ENOENT, place.lstat, f"{a}/deep/file")
        place.mkdir(a)
        refused(errno.ENOTEMPTY, place.rename, a, b)
        place.rmdir(a)
    assert place.read(f"{b}/deep/file") == b"1"
    place.unlink(f"{b}/deep/file")
    place.rmdir(f"{b}/deep")
    place.rmdir(b)


@_needs("open", "unlink", "rename")
def renames_with_flags(place: Place) -> None:
    """RENAME_NOREPLACE, and RENAME_EXCHANGE or EINVAL."""
    a, b = f"{TOP}/a", f"{TOP}/b"
    place.write(a, b"a")
    place.write(b, b"b")
    refused(errno.EEXIST, place.rename, a, b, _NOREPLACE)
    place.rename(a, f"{TOP}/c", _NOREPLACE)
    place.rename(f"{TOP}/c", a)
    try:
        place.rename(a, b, _EXCHANGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    else:
        assert (place.read(a), place.read(b)) == (b"b", b"a")
    place.unlink(a)
    place.unlink(b)


@_needs("open", "unlink", "link")
def hard_links(place: Place) -> None:
    """Two names, one file."""
    a, b = f"{TOP}/a", f"{TOP}/b"
    place.write(a, b"one")
    place.link(a, b)
    assert place.lstat(a).ino == place.lstat(b).ino
    assert place.lstat(a).nlink == place.lstat(b).nlink == 2
    place.write(b, b"through the other")
    assert place.read(a) == b"through the other"
    refused(errno.EEXIST, place.link, a, b)
    place.unlink(a)
    assert place.lstat(b).nlink == 1
    assert place.read(b) == b"through the other"
    place.unlink(b)


@_needs("symlink", "unlink")
def symbolic_links(place: Place) -> None:
    """A link holds any text."""
    path = f"{TOP}/link"
    for target in ("x", "../nowhere/at all", "é" * 500):
        place.symlink(target, path)
        assert place.readlink(path) == target
        assert place.lstat(path).size == len(target.encode())
        refused(errno.EEXIST, place.symlink, "y", path)
        place.unlink(path)


@_needs("mknod", "unlink")
def special_files(place: Place) -> None:
    """A FIFO is one."""
    place.mknod(f"{TOP}/fifo", stat.S_IFIFO | 0o600)
    assert place.lstat(f"{TOP}/fifo").mode == stat.S_IFIFO | 0o600
    place.unlink(f"{TOP}/fifo")


@_needs("open", "unlink", "chmod")
def modes(place: Place) -> None:
    """chmod changes the permissions and nothing else."""
    path = f"{TOP}/mode"
    place.write(path, b"x")
    for mode in (0o600, 0o755, 0o444, 0o4711):
        place.chmod(path, mode)
        assert place.lstat(path).mode == stat.S_IFREG | mode
    place.unlink(path)
    with place.open(path, os.O_WRONLY | os.O_CREAT, 0o640) as file:
        assert file.fstat().mode == stat.S_IFREG | 0o640
    place.unlink(path)


@_needs("mkdir", "rmdir", "chmod")
def modes_of_directories(place: Place) -> None:
    """A directory has the permissions it was made with."""
    place.mkdir(f"{TOP}/mode", 0o750)
    assert place.lstat(f"{TOP}/mode").mode == stat.S_IFDIR | 0o750
    place.rmdir(f"{TOP}/mode")


@_needs("open", "unlink", "utimens")
def times(place: Place) -> None:
    """Times as they were set, to the nanosecond or at least the second."""
    path = f"{TOP}/times"
    place.write(path, b"x")
    for accessed, changed in ((10**9, 2 * 10**9 + 123456789), (4 * 10**18, 10**18)):
        place.utimens(path, accessed, changed)
        told = place.lstat(path)
        assert told.mtime_ns // 10**9 == changed // 10**9
        assert told.atime_ns // 10**9 == accessed // 10**9
    place.unlink(path)


@_needs("open", "unlink", "getxattr", "listxattr", "setxattr", "removexattr")
def attributes(place: Place) -> None:
    """Extended attributes: any bytes, XATTR_CREATE, XATTR_REPLACE, ENODATA."""
    path, name = f"{TOP}/attributes", "user.vuosd"
    place.write(path, b"x")
    refused(errno.ENODATA, place.getxattr, path, name)
    refused(errno.ENODATA, place.setxattr, path, name, b"1", _XATTR_REPLACE)
    for value in (b"", b"\0binary\xff", b"long" * 500):
        place.setxattr(path, name, value)
        assert place.getxattr(path, name) == value
    refused(errno.EEXIST, place.setxattr, path, name, b"1", _XATTR_CREATE)
    assert name in place.listxattr(path)
    place.removexattr(path, name)
    assert name not in place.listxattr(path)
    refused(errno.ENODATA, place.removexattr, path, name)
    place.unlink(path)
