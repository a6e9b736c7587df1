"""The zygote: a warm process that forks workers, reaps them, and cleans up after those that did not.

    daemon ──SPARE (the worker's end of a socket)──▶ zygote ──FORKED, ENDED──▶ daemon
    worker ──HELPER (the helper's end of a socket)──▶ zygote

A session's helper (mounting/helper.py) is forked here too, when the session first mounts something, so that
it has nothing of its worker's, and is warm as well: a file system in Python is then a fork of it.

It is forked from the daemon before that has threads or a trio loop, has none itself, and imports all that a
worker needs, so a fork is a few milliseconds and the pages are shared. It ignores SIGTERM and ends when the
daemon has gone and its last worker too: sessions outlive a daemon that was killed.
"""

import gc
import os
import select
import signal
import socket
from typing import NoReturn

from vuosd.supervisor import members, messages, scratch
from vuosd.supervisor.log import log
from vuosd.supervisor.messages import Type

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def main(daemon: socket.socket) -> NoReturn:
    try:
        _name("vuosd-zygote")
        for number in (*_IGNORED, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        try:
            os.setsid()
        except PermissionError:
            pass
        warm_up()
        _Zygote(daemon).run()
    except BaseException:
        log.exception("the zygote failed")
        os._exit(1)
    os._exit(0)


def warm_up() -> None:
    """Import and build whatever a worker would have to."""
    import ctypes

    import msgspec

    from vuosd import views
    from vuosd.layers import changes  # noqa: F401
    from vuosd.supervisor import filter, held, prepare, watch, worker  # noqa: F401
    from vuosd.supervisor.mounting import helper, mounter, warm  # noqa: F401

    warm.prepare()

    for entries, enforce in ((False, False), (True, False), (True, True)):
        shape = filter.Shape(os.geteuid() == 0, enforce=enforce, entries=entries, mounts=not enforce)
        filter.build(cookie=1 << 32 | 1, shape=shape)
    ctypes.CDLL(None, use_errno=True)
    msgspec.json.encode({"ask": ""})
    profile = b'[view]\nname = "x"\n[[mount]]\ntype = "hide"\ntarget = "/var/empty"\n[env]\nunset = ["X"]\n'
    # Decoders and patterns are made when they are first used.
    view = views.load(b"/x.toml", env={}, cwd=b"/", read=lambda path: profile)
    views.flatten(views.resolved(view, lambda path: None).entries)
    gc.collect()
    gc.freeze()  # else the first collection in each worker writes to every page


class _Zygote:
    def __init__(self, daemon: socket.socket) -> None:
        self.daemon: socket.socket | None = daemon
        self.workers: dict[int, int] = {}
        self.asking: dict[int, socket.socket] = {}
        """What workers ask by, by its number."""
        self.poller = select.poll()
        self.cleaners: set[int] = set()
        self.woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.waker = waker
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)

    def run(self) -> None:
        self.poller.register(self.woken, select.POLLIN)
        assert self.daemon is not None
        watched = self.daemon.fileno()
        self.poller.register(watched, select.POLLIN)
        while self.daemon or self.workers or self.cleaners:
            for fd, _ in self.poller.poll():
                if fd == self.woken:
                    try:
                        os.read(self.woken, 4096)
                    except BlockingIOError:
                        pass
                    self.reap()
                elif fd == watched:
                    if not self.serve():
                        self.poller.unregister(watched)
                else:
                    self.help(self.asking[fd])

    def serve(self) -> bool:
        """One message of the daemon; False when it has gone."""
        assert self.daemon is not None
        message = messages.receive(self.daemon)
        if message is None:
            self.daemon.close()
            self.daemon = None
            return False
        if message.type == Type.SPARE and message.fds:
            self.spare(message.fds[0])
        message.close()
        return True

    def spare(self, channel: int) -> None:
        session = members.new_session()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError as error:  # the daemon finds the worker's channel closed; the sessions go on
            log.error("a worker cannot be started: %s", error.strerror)
            ours.close()
            theirs.close()
            return
        if not pid:
            ours.close()
            self.become_worker(session, channel, theirs)
        theirs.close()
        self.asking[ours.fileno()] = ours
        self.poller.register(ours, select.POLLIN)
        self.workers[pid] = session
        self.tell(Type.FORKED, messages.BIRTH.pack(session, pid))

    def help(self, asking: socket.socket) -> None:
        """What a worker asks for; or it has ended."""
        try:
            message = messages.receive(asking)
        except messages.ProtocolError:
            message = None
        if message is None:
            self.poller.unregister(asking)
            del self.asking[asking.fileno()]
            asking.close()
            return
        try:
            if message.type == Type.HELPER and len(message.fds) == 1 and not os.fork():
                self.become_helper(messages.SESSION.unpack(message.payload)[0], message.fds[0])
        except OSError as error:  # of fork(2): who asks finds the socket closed; the others go on
            log.error("the process that mounts cannot be started: %s", error.strerror)
        message.close()

    def become_helper(self, session: int, fd: int) -> NoReturn:
        try:
            self.child()
            _name("vuosd-mounts")
            from vuosd.supervisor.mounting import helper

            helper.begin(fd, session)
        except BaseException:
            log.exception("the process that mounts failed")
        finally:
            os._exit(1)

    def become_worker(self, session: int, fd: int, zygote: socket.socket) -> NoReturn:
        try:
            self.child()
            channel = socket.socket(fileno=fd)
            _name("vuosd-worker")
            from vuosd.supervisor import worker
        except BaseException:
            log.exception("a worker could not start")
            os._exit(1)
        worker.main(session, channel=channel, zygote=zygote)

    def child(self) -> None:
        """In a child: nothing of the zygote's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(self.woken)
        os.close(self.waker)
        for asking in self.asking.values():
            asking.close()
        if self.daemon:
            self.daemon.close()

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            session = self.workers.pop(pid, None)
            self.cleaners.discard(pid)
            if session is not None:
                self.tell(Type.ENDED, messages.PAIR.pack(pid, status))
                if status:
                    log.error("worker %d %s; its session is ended", pid, _fate(status))
                    self.clean_up(session)

    def clean_up(self, session: int) -> None:
        """Nobody can take the session over, and its processes would wait for ever."""
        pid = os.fork()
        if pid:
            self.cleaners.add(pid)
            return
        try:
            self.child()
            if not members.kill(session):
                log.error("processes of session %x do not die", session)
            scratch.clean_up(session)
        except BaseException:
            log.exception("cleaning up failed")
        finally:
            os._exit(0)

    def tell(self, type: Type, payload: bytes) -> None:
        if self.daemon:
            try:
                messages.send(self.daemon, type, payload, flags=socket.MSG_DONTWAIT)
            except OSError:
                pass  # a daemon that has gone is seen by the next poll


def _fate(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)} ({signal.strsignal(os.WTERMSIG(status))})"
    return f"exited with status {os.WEXITSTATUS(status)}"


def _name(name: str) -> None:
    """What ps(1) shows."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:
        pass
