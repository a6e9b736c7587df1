"""The zygote, without a daemon."""

import errno
import os
import signal
import socket

import pytest

from vuosd.supervisor import messages, zygote
from vuosd.supervisor.messages import Type


def test_a_zygote_that_cannot_fork_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under RLIMIT_NPROC, or a cgroup's pids.max. Who wanted a process finds its channel closed."""

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    handler = signal.getsignal(signal.SIGCHLD)
    daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with daemon, theirs, worker, asking:
        served = zygote._Zygote(theirs)
        try:
            monkeypatch.setattr(os, "fork", fork)
            for kind, sock in (Type.SPARE, daemon), (Type.HELPER, worker):
                channel, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with channel:
                    messages.send(sock, kind, messages.SESSION.pack(1), [given.fileno()])
                    given.close()
                    if kind == Type.SPARE:
                        assert served.serve()
                    else:
                        served.help(asking)
                    channel.settimeout(5)
                    assert channel.recv(1) == b""
            assert served.workers == served.asking == {}
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, handler)
            os.close(served.woken)
            os.close(served.waker)
