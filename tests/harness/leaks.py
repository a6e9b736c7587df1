"""What a test must leave as it was: processes, mounts, files of the runtime directory and /dev/shm, a
daemon's descriptors.

A census before, one after; the difference is the leak. Ends are asynchronous (a worker sees its launcher's
end a moment later), so
the one after is repeated until it is clean or the deadline has passed.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from harness import processes


def mounts() -> set[str]:
    with open("/proc/self/mountinfo") as file:
        return {" ".join(line.split()[2:6]) for line in file}


def listing(directory: Path) -> set[str]:
    found = set()
    for top, directories, files in os.walk(directory):
        found |= {os.path.join(top, name) for name in (*directories, *files)}
    return found


def shared_memory(uid: int) -> set[str]:
    """What vuosd keeps in /dev/shm for this user; the rest of the machine uses it too."""
    found = set()
    for name in os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else ():
        path = f"/dev/shm/{name}"
        if "vuos" in name and not name.startswith("vuosd-tests-"):
            try:
                found |= {path} if os.lstat(path).st_uid == uid else set()
            except FileNotFoundError:
                pass
    return found


def descriptors(pid: int) -> dict[str, str]:
    """Number to what it is, without the counters that differ from one to the next."""
    found = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found[name] = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                pass
    except OSError:
        pass
    return found


@dataclass
class Census:
    uid: int
    directories: tuple[Path, ...]
    daemons: tuple[int, ...]
    processes: set[tuple[int, int]] = field(init=False)
    mounts: set[str] = field(init=False)
    files: set[str] = field(init=False)
    descriptors: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.processes = {(process.pid, process.start) for process in processes.descendants()}
        self.mounts = mounts()
        self.files = self._files()
        self.descriptors = {pid: len(descriptors(pid)) for pid in self.daemons}

    def _files(self) -> set[str]:
        return shared_memory(self.uid).union(*map(listing, self.directories))

    def leaks(self, known: set[int]) -> list[str]:
        """What is there now and was not, as text; `known` are processes whose end somebody still waits
        for."""
        processes.reap(known)
        found = []
        spare = self._spare()
        for process in processes.descendants():
            if (process.pid, process.start) not in self.processes and process.pid not in spare:
                found.append(f"process {process}")
        found += [f"mount {line}" for line in sorted(mounts() - self.mounts)]
        found += [f"file {name}" for name in sorted(self._files() - self.files)]
        for pid, count in self.descriptors.items():
            now = descriptors(pid)
            if len(now) > count:
                found.append(
                    f"descriptors of daemon {pid}: {count} before, now {len(now)}: {sorted(now.values())}"
                )
        return found

    def _spare(self) -> set[int]:
        """The daemon keeps one idle worker forked ahead: another than before after each session, but never
        two, and no child of it."""
        spare = set()
        for daemon in self.daemons:
            below = processes.descendants(daemon)
            before = sum((process.pid, process.start) in self.processes for process in below)
            new = [
                process
                for process in below
                if (process.pid, process.start) not in self.processes and process.state != "Z"
            ]
            had = sum(1 for _ in below) - len(new)
            if before == had and len(new) <= 1:
                spare |= {process.pid for process in new}
        return spare
