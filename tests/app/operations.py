"""Runs the file operations of a JSON file, argv[2], in the directory argv[1]; prints what each gave, then the
tree.

Run natively and in a view: nothing printed may depend on where the tree lies, nor on the clock.
"""

import ctypes
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator

libc = ctypes.CDLL(None, use_errno=True)
HERE = -100  # AT_FDCWD


def renameat2(old: str, new: str, flags: int) -> None:
    if libc.renameat2(HERE, old.encode(), HERE, new.encode(), flags) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def make(path: str, flags: int, data: str) -> object:
    fd = os.open(path, flags | os.O_NONBLOCK, 0o640)
    try:
        if flags & os.O_ACCMODE:
            os.write(fd, data.encode())
        st = os.fstat(fd)
        return st.st_size, oct(st.st_mode), st.st_nlink
    finally:
        os.close(fd)


def read(path: str, flags: int) -> object:
    fd = os.open(path, flags | os.O_NONBLOCK)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return sorted(os.listdir(fd))
        return digest(os.read(fd, 1 << 20))
    finally:
        os.close(fd)


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()[:12]}"


def status(path: str, follow: bool) -> object:
    st = os.stat(path, follow_symlinks=follow)
    directory = stat.S_ISDIR(st.st_mode)
    return oct(st.st_mode), directory or (st.st_size, st.st_nlink), st.st_uid, st.st_gid


def attributes(path: str) -> object:
    return sorted((name, os.getxattr(path, name).hex()) for name in os.listxattr(path))


def temporary(directory: str, path: str) -> None:
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        os.write(fd, b"temporary")
        os.link(f"/proc/self/fd/{fd}", path, follow_symlinks=True)
    finally:
        os.close(fd)


def enter(path: str) -> object:
    before = os.getcwd()
    os.chdir(path)
    try:
        made: object = None
        try:
            os.mkdir("e")
        except OSError as error:
            made = error.errno
        return os.path.relpath(os.getcwd(), before), made, sorted(os.listdir(".")), sorted(os.listdir(".."))
    finally:
        os.chdir(before)


def scan(path: str) -> object:
    """Types as listed, and whether listed inode numbers are those of lstat(2)."""
    with os.scandir(path) as entries:
        return sorted(
            (e.name, e.is_dir(follow_symlinks=False), e.is_symlink(), e.inode() == os.lstat(e.path).st_ino)
            for e in entries
        )


def by_descriptor(path: str) -> object:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.fchmod(fd, 0o604)
        os.utime(fd, ns=(1, 2))
        os.ftruncate(fd, 7)
        return digest(os.pread(fd, 9, 0))
    finally:
        os.close(fd)


def map_shared(path: str, data: str) -> object:
    import mmap

    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.truncate(path, 4096)
        with mmap.mmap(fd, 4096) as memory:
            memory[100 : 100 + len(data)] = data.encode()
            memory.flush()
        with open(path, "rb") as file:
            return digest(file.read())
    finally:
        os.close(fd)


def directory_descriptor(path: str) -> object:
    """A directory held open while it is changed is the one that is named."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chmod(path, 0o751)
        held, named = os.fstat(fd), os.stat(path)
        return oct(held.st_mode), held.st_ino == named.st_ino, held.st_mtime_ns == named.st_mtime_ns
    finally:
        os.close(fd)


CALLS: dict[str, Callable[..., object]] = {
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "rename": os.rename,
    "renameat2": renameat2,
    "link": lambda old, new: os.link(old, new, follow_symlinks=False),
    "symlink": os.symlink,
    "mkfifo": os.mkfifo,
    "chmod": os.chmod,
    "utime": lambda path, when, follow: os.utime(path, ns=(when, when + 1), follow_symlinks=follow),
    "truncate": os.truncate,
    "make": make,
    "read": read,
    "list": lambda path: sorted(os.listdir(path)),
    "readlink": os.readlink,
    "status": status,
    "access": lambda path: [os.access(path, mode) for mode in (0, 1, 2, 4)],
    "setxattr": lambda path, data: os.setxattr(path, "user.test", data.encode()),
    "attributes": attributes,
    "temporary": temporary,
    "enter": enter,
    "scan": scan,
    "by_descriptor": by_descriptor,
    "map_shared": map_shared,
    "directory_descriptor": directory_descriptor,
}


def tree(directory: str) -> Iterator[object]:
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        st = os.lstat(path)
        kind = stat.S_IFMT(st.st_mode)
        content: object = None
        if kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind == stat.S_IFREG and os.access(path, os.R_OK):
            with open(path, "rb") as file:
                content = digest(file.read())
        yield (
            path,
            oct(st.st_mode),
            st.st_uid,
            kind == stat.S_IFDIR or (st.st_size, st.st_nlink),
            content,
            None if kind == stat.S_IFLNK else attributes(path),
            st.st_mtime_ns if kind != stat.S_IFDIR and st.st_mtime_ns < 10**15 else None,
        )
        if kind == stat.S_IFDIR:
            yield from tree(path)


def main() -> None:
    with open(sys.argv[2]) as file:
        operations = json.load(file)
    os.chdir(sys.argv[1])
    os.umask(0o022)
    for number, (name, *words) in enumerate(operations):
        try:
            result = CALLS[name](*words)
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, error.errno)
        print(number, name, words, result)
    for line in tree("."):
        print(line)


if __name__ == "__main__":
    main()
