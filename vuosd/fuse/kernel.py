"""A FUSE mount by the kernel that nobody sees: in a mount namespace that nobody lives in, reached by a
descriptor of its root.

A child makes the namespace (as root, or in a user namespace of its own), opens /dev/fuse, mounts it on a
directory, and hands over the FUSE descriptor, the root and the namespace. The mount lasts until the last of
root and namespace is closed; to lie there on a server's behalf is the FUSE descriptor's part."""

import ctypes
import os
import socket
import tempfile
from collections.abc import Iterable

from vuosd.supervisor.scratch import enter_namespace

_NOSUID, _NODEV, _RDONLY = 2, 4, 1


class Mounted:
    """The descriptors of one mount: `fuse` for the server, `root`, an O_PATH directory, for those who use
    it."""

    def __init__(self, fuse: int, root: int, namespace: int) -> None:
        self.fuse, self.root, self._namespace = fuse, root, namespace

    def close(self) -> None:
        """Unmount: as soon as nobody uses it any more."""
        for fd in (self.fuse, self.root, self._namespace):
            if fd >= 0:
                os.close(fd)
        self.fuse = self.root = self._namespace = -1

    def close_view(self) -> None:
        """In the server's own process: who holds the root keeps the file system mounted."""
        os.close(self.root)
        os.close(self._namespace)
        self.root = self._namespace = -1

    def close_fuse(self) -> None:
        """When the server has got it."""
        os.close(self.fuse)
        self.fuse = -1


def mount(options: Iterable[str] = (), readonly: bool = False, name: str = "") -> Mounted:
    """Mount a FUSE file system with these options of mount(2). OSError: this machine does not let us."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, tempfile.TemporaryDirectory(prefix="vuosd-") as place:
        pid = os.fork()
        if not pid:
            _child(theirs, place, tuple(options), readonly, name)
        theirs.close()
        try:
            said, fds, _, _ = socket.recv_fds(ours, 256, 3)
        finally:
            os.waitpid(pid, 0)
        if len(fds) != 3:
            number, _, what = said.decode().partition(" ")
            raise OSError(int(number or 5), os.strerror(int(number or 5)), what or "mount")
        for fd in fds:
            os.set_inheritable(fd, False)
        return Mounted(*fds)


def _child(sock: socket.socket, place: str, options: tuple[str, ...], readonly: bool, name: str) -> None:
    try:
        enter_namespace()
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        words = [
            f"fd={fuse}",
            "rootmode=40000",
            f"user_id={os.geteuid()}",
            f"group_id={os.getegid()}",
            *options,
        ]
        flags = _NOSUID | _NODEV | (_RDONLY if readonly else 0)
        kind = b"fuse." + name.encode() if name else b"fuse"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"vuosd", place.encode(), kind, ctypes.c_ulong(flags), ",".join(words).encode()) < 0:
            raise OSError(ctypes.get_errno(), "", "mount")
        root = os.open(place, os.O_PATH | os.O_CLOEXEC)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(sock, [b"done"], [fuse, root, namespace])
        os._exit(0)
    except OSError as error:
        sock.send(f"{error.errno} {error.filename}".encode()[:250])
    finally:
        os._exit(1)
