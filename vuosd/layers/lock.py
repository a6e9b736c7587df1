"""The lock of a layer: held by the worker of the run that writes it, and by commands that change or need it
unchanged.

It is a flock(2) of the file `lock`, so it ends with its holder. The holder writes its process id into the
file for messages; the number means nothing when the lock is free.

A process that is killed goes on holding it until the last of its threads has gone, which is after its main
thread is a zombie: who starts again at once waits for that.
"""

import errno
import fcntl
import os
import re
import signal
import time

FILE = b"lock"
_LONGEST_DEATH = 10.0  # seconds
_PAUSE = 0.005
_PF_EXITING = 0x4


class BusyError(Exception):
    """`pid` holds the lock; None if it could not say so."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid

    def __str__(self) -> str:
        return "in use by " + (f"process {self.pid}" if self.pid else "another process")


def take(directory: bytes) -> int:
    """The lock's descriptor, which holds it. BusyError; FileNotFoundError: no layer is there (any more)."""
    path = os.path.join(directory, FILE)
    began = time.monotonic()
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two calls `drop` may have moved the layer away, and another be there now.
            if _is_at(fd, path):
                os.ftruncate(fd, 0)
                _write_pid(fd)
                return fd
        except BlockingIOError:
            pid = _read_pid(fd)
            if time.monotonic() - began > _patience(pid):
                os.close(fd)
                raise BusyError(pid) from None
            time.sleep(_PAUSE)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def holder(directory: bytes) -> BusyError | None:
    """Who holds the lock now, if anyone does; by a look at /proc/locks, as trying would disturb who takes it
    now. OSError."""
    try:
        fd = os.open(os.path.join(directory, FILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        st, pid = os.fstat(fd), _read_pid(fd)
    finally:
        os.close(fd)
    device = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}"
    with open("/proc/locks", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()  # 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
            if len(words) < 6 or words[1] != "FLOCK":
                continue
            place, _, inode = words[5].rpartition(":")
            # Some file systems (btrfs) have another device here than in stat(2).
            if inode == str(st.st_ino) and (place == device or words[4] == str(pid)):
                return BusyError(pid)
    return None


def _patience(pid: int | None) -> float:
    """Seconds that a holder deserves: many if nothing but the kernel's own work is between it and its end
    (proc_pid_stat(5), SIGKILL in proc_pid_status(5)); a few tries if it has gone since, which it may also
    seem to have if it is of another pid namespace.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open(f"/proc/{pid}/status", "rb") as file:
            pending = re.findall(rb"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", file.read(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 10 * _PAUSE
    killed = any(int(signals, 16) & 1 << signal.SIGKILL - 1 for signals in pending)
    dying = killed or fields[0] in (b"Z", b"X") or int(fields[6]) & _PF_EXITING
    return _LONGEST_DEATH if dying else 0.0


def _is_at(fd: int, path: bytes) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _write_pid(fd: int) -> None:
    try:
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # only the message loses by it
            raise


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
