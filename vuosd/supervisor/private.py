"""`vuosd --private=FD`: one session without a daemon, for the launcher at the other end of a socket.

This process forks the worker before it has imported anything, and stays only to clean up when the worker is
killed; so it costs little, and a session has somebody to end it.
"""

import os
import signal
import socket
from typing import NoReturn


def main(fd: int) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the terminal's; the command gets its own
    try:
        os.setsid()
    except PermissionError:
        pass
    os.chdir("/")
    session = new_session()
    worker = os.fork()
    if not worker:
        _worker(session, fd)
    os.close(fd)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    _, status = os.waitpid(worker, 0)
    if status:
        from vuosd.supervisor import members, scratch

        members.kill(session)
        scratch.clean_up(session)
    os._exit(0)


def _worker(session: int, fd: int) -> NoReturn:
    try:
        os.set_inheritable(fd, False)
        connection = socket.socket(fileno=fd)
        from vuosd.supervisor import worker
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    worker.main(session, connection=connection)


def new_session() -> int:
    """As members.new_session, without its imports."""
    return (int.from_bytes(os.urandom(5), "little") >> 2) or 1
