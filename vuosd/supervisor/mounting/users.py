"""Who uses a mount: members with a descriptor, directory, program or mapping in it. No server is
asked.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vuosd.supervisor import members

_PF_EXITING = 4  # include/linux/sched.h
_ROUNDS = 64
"""Of looking for those who have come meanwhile."""


class User(NamedTuple):
    pid: int
    name: str


class Process(NamedTuple):
    """One, and no later one of the same number: when it started, in ticks since the machine did."""

    pid: int
    start: int


def process(pid: int) -> Process | None:
    """None: there is none."""
    found = _stat(pid)
    return Process(pid, int(found[19])) if found else None


def parent(pid: int) -> int:
    """Of a process; 0 if there is none."""
    found = _stat(pid)
    return int(found[1]) if found else 0


def _is_ending(pid: int) -> bool:
    """Or has ended. What a process uses is let go of one after the other, before it is a zombie (do_exit in
    kernel/exit.c).
    """
    found = _stat(pid)
    return not found or bool(int(found[6]) & _PF_EXITING)


def _stat(pid: int) -> list[bytes]:
    """What proc_pid_stat(5) tells after the name, from the state on."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def mount_id(fd: int) -> int:
    """Of the mount that a descriptor lies in, as proc_pid_fdinfo(5) tells it; -1 if that cannot be
    had.
    """
    return _mount_id(f"/proc/self/fdinfo/{fd}")


def users(pids: Sequence[int], mount: int, device: str) -> list[User]:
    """Those of `pids` that use the mount with this id, of the file system with this MAJOR:MINOR."""
    return [User(pid, name(pid)) for pid in pids if _uses(pid, mount, device)]


def of_members(session: int, uses: Callable[[int, members.Tag], bool]) -> list[User]:
    """The members of a session, with their tags, that use something. While we look a child may be born, and
    its parent end. So the youngest are asked first, and as long as somebody has ended before he was asked,
    whoever has come meanwhile. If that never ceases it is a member who ended so.
    """
    seen: set[int] = set()
    found: list[User] = []
    unknown: list[User] = []
    for _ in range(_ROUNDS):
        come = sorted({int(name) for name in os.listdir("/proc") if name.isdigit()} - seen, reverse=True)
        again = False
        for pid in come:
            tag = members.tag_of(pid)
            again |= tag is None and not os.path.exists(f"/proc/{pid}")
            if tag is None or tag.session != session or tag.state >= members.SERVER:
                continue
            if uses(pid, tag):
                found.append(User(pid, name(pid)))
            elif _is_ending(pid):
                again = True
                unknown = [User(pid, "one that has just ended")]
        if found or not again:
            return sorted(found)
        seen.update(come)
    return unknown


def uses_below(*paths: bytes) -> Callable[[int, members.Tag], bool]:
    """Whether a process uses something in one of these directories, as the kernel names them."""
    below = tuple(path + b"/" for path in paths)
    return lambda pid, tag: any(link in paths or link.startswith(below) for _, link in links(pid))


def links(pid: int) -> Iterator[tuple[bytes, bytes]]:
    """What a process uses, as the kernel names it, each with its name in /proc/PID."""
    for directory in (b"", b"fd/", b"map_files/"):  # the quickest first
        names = [b"cwd", b"root", b"exe"]
        try:
            if directory:
                names = os.listdir(b"/proc/%d/%s" % (pid, directory))
        except OSError:
            continue
        for name in names:
            try:
                yield name, os.readlink(b"/proc/%d/%s%s" % (pid, directory, name))
            except OSError:
                continue  # closed meanwhile, or not ours to look at


def _uses(pid: int, mount: int, device: str) -> bool:
    return any(found == mount for found in _held(pid)) or _maps(pid, device)


def _held(pid: int) -> Iterator[int]:
    try:
        names = os.listdir(f"/proc/{pid}/fdinfo")
    except OSError:
        return
    for name in names:
        yield _mount_id(f"/proc/{pid}/fdinfo/{name}")
    for link in ("cwd", "root", "exe"):
        try:
            fd = os.open(f"/proc/{pid}/{link}", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            yield mount_id(fd)
        finally:
            os.close(fd)


def _mount_id(path: str) -> int:
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b"mnt_id:"):
                    return int(line[7:])
    except OSError:
        pass  # closed meanwhile, or not ours to look at
    return -1


def _maps(pid: int, device: str) -> bool:
    """The maps write the device in hexadecimal."""
    major, _, minor = device.partition(":")
    wanted = b"%02x:%02x" % (int(major), int(minor))
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return any(line.split(None, 4)[3] == wanted for line in file)
    except OSError:
        return False


def name(pid: int) -> str:
    """Of its program; "?" if it has gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n").decode("utf-8", "backslashreplace")
    except OSError:
        return "?"


def listed(using: Sequence[User]) -> str:
    """For a sentence."""
    named = ", ".join(f"{user.name} ({user.pid})" for user in using[:5])
    return named + (f" and {len(using) - 5} more" if len(using) > 5 else "")
