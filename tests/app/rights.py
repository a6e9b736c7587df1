"""Tries many things with objects of several owners in the directory argv[1], and prints what came of it.

Run natively and in a view: nothing printed may differ.
"""

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Callable

ME = os.geteuid()


def opened(path: str, flags: int, act: Callable[[int], object]) -> object:
    fd = os.open(path, flags)
    try:
        return act(fd)
    finally:
        os.close(fd)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """A "system.posix_acl_access": (tag, bits, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def status(path: str) -> object:
    st = os.lstat(path)
    return oct(st.st_mode), st.st_uid, st.st_gid, opened_status(path)


def opened_status(path: str) -> object:
    try:
        return opened(path, os.O_RDONLY, lambda fd: (oct(os.fstat(fd).st_mode), os.fstat(fd).st_uid))
    except PermissionError as error:
        return error.errno


def write(fd: int) -> object:
    return os.write(fd, b"more")


def tell(what: str, path: str, act: Callable[[], object]) -> None:
    try:
        result = act()
    except OSError as error:
        result = errno.errorcode.get(error.errno or 0)
    print(what, path, result)


def execute(path: str) -> int:
    return subprocess.run([f"./{path}"], check=False).returncode


def of_a_file(path: str) -> None:
    mine = os.lstat(path).st_uid == ME
    tell("status", path, lambda: status(path))
    tell("append", path, lambda: opened(path, os.O_WRONLY | os.O_APPEND, write))
    tell("both", path, lambda: opened(path, os.O_RDWR, write))
    tell("rename", path, lambda: os.rename(path, path + "~"))
    tell("back", path, lambda: os.rename(path + "~", path))
    tell("read", path, lambda: opened(path, os.O_RDONLY, lambda fd: len(os.read(fd, 99))))
    tell("write", path, lambda: opened(path, os.O_WRONLY, write))
    tell("truncate", path, lambda: os.truncate(path, 9))
    tell("access", path, lambda: [os.access(path, mode) for mode in range(8)])
    tell("execute", path, lambda: execute(path))
    if not mine:  # natively he may not; in a view he may go on giving things away
        tell("chown", path, lambda: os.chown(path, ME, -1))
        tell("chown nobody", path, lambda: os.chown(path, -1, -1))
        tell("chgrp", path, lambda: os.chown(path, -1, os.getegid()))
        tell("fchown", path, lambda: opened(path, os.O_RDONLY, lambda fd: os.fchown(fd, ME, -1)))
    tell("fchmod", path, lambda: opened(path, os.O_RDONLY, lambda fd: os.fchmod(fd, 0o646)))
    tell("fsetxattr", path, lambda: opened(path, os.O_RDONLY, lambda fd: os.setxattr(fd, "user.x", b"1")))
    tell("chmod", path, lambda: os.chmod(path, 0o2645))
    tell("utime", path, lambda: os.utime(path, (5, 6)))
    tell("now", path, lambda: os.utime(path))
    tell("noatime", path, lambda: opened(path, os.O_RDONLY | os.O_NOATIME, lambda fd: None))
    tell("setxattr", path, lambda: os.setxattr(path, "user.y", b"2"))
    tell("getxattr", path, lambda: os.getxattr(path, "user.y"))
    tell("removexattr", path, lambda: os.removexattr(path, "user.y"))
    entries = access_list(
        (1, 4, 0xFFFFFFFF), (2, 6, 1), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)
    )
    tell("list", path, lambda: os.setxattr(path, "system.posix_acl_access", entries))
    tell("link", path, lambda: os.link(path, path + "+"))
    tell("status", path, lambda: status(path))
    tell("unlink", path, lambda: os.unlink(path))


def of_a_directory(path: str) -> None:
    tell("status", path, lambda: status(path))
    tell("append below", path, lambda: opened(f"{path}/mine", os.O_WRONLY | os.O_APPEND, write))
    tell("lists", path, lambda: sorted(os.listdir(path)))
    tell("access", path, lambda: [os.access(path, mode) for mode in range(8)])
    tell("looks up", path, lambda: os.lstat(f"{path}/none"))
    tell("looks up .", path, lambda: oct(os.lstat(f"{path}/.").st_mode))
    tell("creates", path, lambda: opened(f"{path}/new", os.O_WRONLY | os.O_CREAT, write))
    tell("status", path, lambda: status(f"{path}/new"))
    tell("mkdir", path, lambda: os.mkdir(f"{path}/directory"))
    tell("status", path, lambda: status(f"{path}/directory"))
    tell("temporary", path, lambda: opened(path, os.O_RDWR | os.O_TMPFILE, write))
    tell("symlink", path, lambda: os.symlink("x", f"{path}/link"))
    tell("link", path, lambda: os.link(f"{path}/mine", f"{path}/second"))
    tell("rename within", path, lambda: os.rename(f"{path}/mine", f"{path}/renamed"))
    tell("unlink", path, lambda: os.unlink(f"{path}/theirs"))
    tell("rmdir", path, lambda: os.rmdir(f"{path}/directory"))
    tell("chdir", path, lambda: (os.chdir(path), os.chdir("..")))
    tell("chmod", path, lambda: os.chmod(path, 0o700))
    tell("utime", path, lambda: os.utime(path, (5, 6)))
    tell("setxattr", path, lambda: os.setxattr(path, "user.y", b"2"))
    tell("rename", path, lambda: os.rename(path, f"{path}~"))
    tell("back", path, lambda: os.rename(f"{path}~", path))
    tell("rename elsewhere", path, lambda: os.rename(path, f"other/{path}"))
    tell("status", path, lambda: status(path))


def main() -> None:
    os.chdir(sys.argv[1])
    os.umask(0o022)
    for path in sorted(os.listdir(".")):
        if path.startswith("f"):
            of_a_file(path)
        if path.startswith("d"):
            of_a_directory(path)


if __name__ == "__main__":
    main()
