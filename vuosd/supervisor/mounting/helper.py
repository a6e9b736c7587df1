"""The process that mounts. It lives in a mount namespace, and for whoever is not root in a user
namespace, that nobody else is in: so the kernel lets it mount FUSE file systems, and the host's mount
table never shows them.

    worker ──requests──▶ helper ──fork, exec──▶ servers that the worker starts
           ◀─descriptors─

It holds nothing of the worker's: the zygote forks it, which has imported what file systems in Python
need (warm.py), or, in a session without a daemon, it is a Python of its own, that starts in some 20 ms
(`start` in namespace.py). FD is a SOCK_SEQPACKET socket; each message is a JSON object, with
descriptors by SCM_RIGHTS:

    {"id": 1, "do": "open", "flags"}            → [a /dev/fuse that can be mounted here]
    {"id": 2, "do": "mount", "path", "type", "source", "flags", "data"} + [/dev/fuse]
                                                → {"device"} + [the root, O_PATH]
    {"id": 3, "do": "start", "path", "mark", "kernel", "bounds", "probed"} + [memfd, output, …]
                                                see namespace.py, Program
                                                → {"device", "pid", "type", "source", "flags", "options"}
                                                + [the root], when it has mounted at `path`;
                                                → {"pid"} at once if `path` is null: it serves a descriptor
    {"id": 3, "do": "start", …, "socket": true} + [memfd, output, …, a socket]
                                                → the same without a root: for a /dev/fuse it gets the socket
    {"id": 4, "do": "root", "path"}             → [the root]
    {"id": 5, "do": "unmount", "path", "flags", "seconds"}   tried so long while it is EBUSY
    {"id": 6, "do": "signal", "mark", "signal"}
    {"id": 8, "do": "remount", "path", "flags"}
    {"id": 7, "do": "finish", "seconds"}        everything is unmounted, the servers end, then we

A reply has the request's id, and `error` (an errno) with `text` when it failed. Without a request come
{"ready": "user" | "root" | "none", "why": text} + [its pidfd], {"moved": mark, "pid"} when a server goes
on in another process, and {"ended": mark, "status"} when none of it is left. The memfd of "start" holds
{"argv", "env", "cwd", "fds"}: the descriptors after `output` (the server's stdout and stderr) get the
numbers in `fds`.

A server calls mount(2) as it always does. It is done here for it (a seccomp filter of its own notifies
us), since what a server asks for is not always what works: in a user namespace `allow_other` shuts out
everybody who is not in it, the view's processes among them, and without it the one user that there is may
come from anywhere (fuse_allow_current_process, fs/fuse/dir.c).

It may leave its first process, as daemon(3) does: its processes are found by the variable VUOSD_MOUNT in
their environment, the one that serves by its /dev/fuse; and when none is left the filter hangs up.

When the socket ends, so does all this.
"""

import errno
import json
import os
import resource
import select
import signal
import socket
import threading
import time
from typing import Any, NoReturn

from vuosd.supervisor import members
from vuosd.supervisor.mounting import native, options
from vuosd.supervisor.mounting.bounds import Bounds, prepare
from vuosd.supervisor.mounting.libc import call

LARGEST = 1 << 17
"""Bytes of a message."""
MOST_FDS = 64
DEVICE = "/dev/fuse"
_LAST_SECONDS = 5.0
_BUSY_SECONDS = 0.002
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_MS_REMOUNT = 32
_MOST_CONNECTS = 100
_TYPES = (b"fuse", b"fuseblk")

Fields = dict[str, Any]


class _Server:
    def __init__(
        self, request: int, mark: str, path: str | None, pid: int, listener: int, device: int | None
    ) -> None:
        self.request = request
        """0 once it has been answered."""
        self.mark = mark
        self.path = path
        self.pid = pid
        self.listener = listener
        self.device = device
        """What it opens as /dev/fuse, until it has mounted that; None: a real one."""
        self.wire = device is not None
        self.probed: tuple[bytes, int] | None = None
        """A path that it opens for writing, and what it gets in place of that, for reading."""
        self.kernel: list[str] = []
        self.agent = ""
        """The one socket with a path that it may connect to."""
        self.status: int | None = None


class _Helper:
    def __init__(self, sock: socket.socket, kind: str) -> None:
        self.sock = sock
        self.kind = kind
        self.sending = threading.Lock()
        self.paths: list[str] = []
        self.servers: dict[str, _Server] = {}
        self.finished = False
        self.woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self.poller = select.poll()
        self.poller.register(self.sock, select.POLLIN)
        self.poller.register(self.woken, select.POLLIN)

    # The loop

    def run(self) -> None:
        """Until the worker wants nothing more, or has gone."""
        while self.turn(None):
            pass

    def turn(self, milliseconds: float | None) -> bool:
        """Whatever has happened; False when the worker's socket is of no use any more."""
        for fd, events in self.poller.poll(milliseconds):
            if fd == self.woken:
                native.drain(self.woken)
                self.reap()
            elif fd == self.sock.fileno():
                if not self.serve():
                    return False
            else:
                self.listen(next(server for server in self.servers.values() if server.listener == fd), events)
        return True

    def serve(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, LARGEST, MOST_FDS)
        except ConnectionResetError:
            return False
        if not data:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)
        asked = json.loads(data)
        try:
            if asked["do"] == "finish":
                self.finish(asked["seconds"])
                self.reply(asked["id"])
                return False
            getattr(self, "do_" + asked["do"])(asked, fds)
        except OSError as error:
            self.refuse(asked["id"], error)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def reply(self, request: int, fields: Fields | None = None, fds: tuple[int, ...] = ()) -> None:
        self.send({"id": request, **(fields or {})}, fds)

    def refuse(self, request: int, error: OSError, text: str = "") -> None:
        self.reply(request, {"error": error.errno or errno.EIO, "text": text or native.sentence(error)})

    def send(self, fields: Fields, fds: tuple[int, ...] = ()) -> None:
        try:
            with self.sending:
                socket.send_fds(self.sock, [json.dumps(fields).encode()], fds)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker has gone: the loop sees it

    # Requests

    def do_open(self, asked: Fields, fds: list[int]) -> None:
        fd = os.open(DEVICE, asked["flags"] | os.O_CLOEXEC)
        try:
            self.reply(asked["id"], fds=(fd,))
        finally:
            os.close(fd)

    def do_mount(self, asked: Fields, fds: list[int]) -> None:
        source, path, kind, data = (os.fsencode(asked[name]) for name in ("source", "path", "type", "data"))
        self.mount(fds[0], path, kind, source, asked["flags"], data)
        self.hand_over(asked["id"], asked["path"], {"device": native.device(asked["path"])})

    def mount(self, fd: int, path: bytes, kind: bytes, source: bytes, flags: int, data: bytes) -> bytes:
        """The options that it was mounted with."""
        words = [word for word in data.split(b",") if word and not word.startswith(b"fd=")]
        if self.kind == "user":
            drop = (b"user_id=", b"group_id=", b"allow_other")
            words = [word for word in words if not word.startswith(drop)]
            words += [b"user_id=%d" % os.geteuid(), b"group_id=%d" % os.getegid()]
        options = b",".join(words)
        call("mount", source, path, kind, flags, b"fd=%d,%s" % (fd, options))
        self.paths.append(os.fsdecode(path))
        return options

    def do_root(self, asked: Fields, fds: list[int]) -> None:
        self.hand_over(asked["id"], asked["path"], {})

    def hand_over(self, request: int, path: str, fields: Fields) -> None:
        root = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            self.reply(request, fields, (root,))
        finally:
            os.close(root)

    def do_start(self, asked: Fields, fds: list[int]) -> None:
        given = fds[1:-1] if asked["socket"] else fds[1:]
        probed = given.pop() if asked["probed"] is not None else -1
        within = None
        if (bounds := asked["bounds"]) is not None:
            ruleset = given.pop() if bounds["ruleset"] else -1
            agent = bounds["agent"] if native.may_borrow() else ""
            within = Bounds(ruleset, bounds["network"], bounds["attributes"], agent)
            prepare(within)
        ours, theirs = socket.socketpair()
        opens = asked["socket"] or probed >= 0
        with ours, theirs:
            pid = os.fork()
            if not pid:
                native.become(fds[0], asked["mark"], given, theirs, within, opens=opens)
            theirs.close()
            _, listeners, _, _ = socket.recv_fds(ours, 1, 1)
        if not listeners:
            raise OSError(errno.EPERM, "a server's mount(2) cannot be listened to")
        os.set_inheritable(listeners[0], False)
        device = os.dup(fds[-1]) if asked["socket"] else None
        server = _Server(asked["id"], asked["mark"], asked["path"], pid, listeners[0], device)
        server.kernel = asked["kernel"]
        server.agent = within.agent if within is not None else ""
        if probed >= 0:
            server.probed = os.fsencode(asked["probed"]), os.dup(probed)
        self.servers[asked["mark"]] = server
        self.poller.register(server.listener, select.POLLIN)
        if server.path is None:
            server.request = 0
            self.reply(asked["id"], {"pid": pid})

    def do_remount(self, asked: Fields, fds: list[int]) -> None:
        call("mount", None, os.fsencode(asked["path"]), None, asked["flags"] | _MS_REMOUNT, b"")
        self.reply(asked["id"])

    def do_unmount(self, asked: Fields, fds: list[int]) -> None:
        """In a thread: the last reference to a file system waits for its server."""

        def unmount() -> None:
            deadline = time.monotonic() + asked["seconds"]
            while True:
                try:
                    call("umount2", os.fsencode(asked["path"]), asked["flags"] | _UMOUNT_NOFOLLOW)
                    break
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() > deadline:
                        self.refuse(asked["id"], error)
                        return
                    time.sleep(_BUSY_SECONDS)
            self.paths = [path for path in self.paths if path != asked["path"]]
            self.reply(asked["id"])

        threading.Thread(target=unmount, daemon=True).start()

    def do_signal(self, asked: Fields, fds: list[int]) -> None:
        native.send_signal(native.marked(asked["mark"]), asked["signal"])
        self.reply(asked["id"])

    def finish(self, seconds: float) -> None:
        """Lazily: what is still open keeps a file system, and its server, no longer than the deadline."""
        for path in reversed(self.paths):
            try:
                call("umount2", os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
            except OSError:
                pass  # its server has done it
        self.paths.clear()
        self.poller.unregister(self.sock)
        self.finished = True
        deadline = time.monotonic() + seconds
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            for server in self.servers.values():
                if number:
                    native.send_signal(native.marked(server.mark), number)
            while self.servers and (left := deadline - time.monotonic()) > 0:
                self.turn(left * 1000)
            if not self.servers:
                return
            deadline = time.monotonic() + 1.0

    # Servers

    def listen(self, server: _Server, events: int) -> None:
        """A server mounts, or its last process has ended."""
        if not events & select.POLLIN:
            self.has_ended(server)
            return
        wanted = native.receive(server.listener)
        if isinstance(wanted, native.Open):
            self.answer_open(server, wanted)
        elif isinstance(wanted, native.Connect):
            if threading.active_count() > _MOST_CONNECTS:
                native.answer(server.listener, wanted, errno.EAGAIN)
            else:
                threading.Thread(target=self.connect_for, args=(server, wanted), daemon=True).start()
        elif wanted:
            result = 0
            try:
                self.mount_for(server, wanted)
            except OSError as error:
                result = error.errno or errno.EIO
            native.answer(server.listener, wanted, result)

    def answer_open(self, server: _Server, wanted: native.Open) -> None:
        """For reading and writing: of /dev/fuse, and of a source that shall not be written to."""
        device = server.device if wanted.path == b"/dev/fuse" else None
        if server.probed is None or wanted.path != server.probed[0]:
            native.answer_open(server.listener, wanted, device)
            return
        anew = os.open(f"/proc/self/fd/{server.probed[1]}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            native.answer_open(server.listener, wanted, anew)
        finally:
            os.close(anew)

    def connect_for(self, server: _Server, wanted: native.Connect) -> None:
        """In a thread: another machine may let us wait. What it connects, and where to, it cannot change
        while we look: both are ours.
        """
        listener = server.listener
        try:
            fd = native.descriptor(wanted.pid, wanted.fd)
        except OSError as error:
            native.answer(listener, wanted, error.errno or errno.EIO)
            return
        result = native.connect(fd, wanted.address, server.agent)
        os.close(fd)
        native.answer(listener, wanted, result)

    def mount_for(self, server: _Server, wanted: native.Call) -> None:
        """A server's own mount(2)."""
        # By the words alone: what lies on the way may be a mount whose server, an accomplice, never answers.
        above = os.readlink(f"/proc/{wanted.pid}/cwd")
        place = os.path.normpath(os.path.join(above, os.fsdecode(wanted.target)))
        words = dict(word.partition(b"=")[::2] for word in wanted.data.split(b","))
        ours = server.request and place == server.path and words.get(b"fd", b"").isdigit()
        if not ours or wanted.flags & ~options.KEPT or wanted.type.partition(b".")[0] not in _TYPES:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # it may ask for anything, a bind, say
        fd = native.descriptor(wanted.pid, int(words[b"fd"]))
        path = os.fsencode(place)
        try:
            if server.device is not None:
                given = _socket_options(server.device, fd, wanted.data)
            else:
                more = [os.fsencode(word) for word in server.kernel if self.kind == "root"]
                data = b",".join([wanted.data, *more])
                given = self.mount(fd, path, wanted.type, wanted.source, wanted.flags, data)
        finally:
            os.close(fd)
        mounted = {
            "device": "" if server.wire else native.device(place),
            "pid": wanted.pid,
            "type": os.fsdecode(wanted.type),
            "source": os.fsdecode(wanted.source),
            "flags": wanted.flags,
            "options": os.fsdecode(given),
        }
        request, server.request = server.request, 0
        if server.device is None:
            self.hand_over(request, place, mounted)
        else:
            os.close(server.device)
            server.device = None
            self.reply(request, mounted)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for server in self.servers.values():
                if server.pid == pid:
                    self.has_left(server, os.waitstatus_to_exitcode(status))

    def has_left(self, server: _Server, status: int) -> None:
        """The process that was the server has ended; perhaps for another, as daemon(3) does."""
        # Who has lost his parent is our child now: the others are looked at only if none of these is the one.
        known = {other.pid for other in self.servers.values()}
        orphans = [pid for pid in native.children() if pid not in known]
        for pid in native.marked(server.mark, orphans) or native.marked(server.mark):
            if server.path is None or server.wire or native.serves(pid):
                server.pid = pid
                self.send({"moved": server.mark, "pid": pid})
                return
        server.status = status

    def has_ended(self, server: _Server) -> None:
        if server.status is None:  # the filter is let go of before the process is a zombie
            server.status = native.wait(server.pid)
        self.poller.unregister(server.listener)
        os.close(server.listener)
        if server.device is not None:
            os.close(server.device)
        if server.probed is not None:
            os.close(server.probed[1])
        del self.servers[server.mark]
        if server.request:
            fate = native.fate(server.status)
            self.refuse(server.request, OSError(errno.EIO, fate), f"{fate} and mounted nothing")
        self.send({"ended": server.mark, "status": server.status})


def _socket_options(device: int, fd: int, data: bytes) -> bytes:
    """Of a mount(2) with a descriptor; EINVAL unless that is the socket that the server was given."""
    if not os.path.samestat(os.fstat(device), os.fstat(fd)):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return b",".join(word for word in data.split(b",") if word and not word.startswith(b"fd="))


def begin(fd: int, session: int) -> NoReturn:
    """The same in a fork of the zygote's, which has its terminal and its working directory."""
    try:
        os.setsid()
    except PermissionError:
        pass
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    main(fd, session)


def main(fd: int, session: int) -> NoReturn:
    """The helper of a session; `fd` is its socket."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    for number in native.IGNORED:
        signal.signal(number, signal.SIG_IGN)
    members.mark(session, members.SERVER)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each server has a descriptor
    try:
        kind, why = native.enter_namespace(), ""
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        kind, why = "none", native.sentence(error)
        native.without_namespace()
    helper = _Helper(sock, kind)
    own = os.pidfd_open(os.getpid())
    helper.send({"ready": kind, "why": why}, (own,))
    os.close(own)
    helper.run()
    if not helper.finished:
        helper.finish(_LAST_SECONDS)
    os._exit(0)
