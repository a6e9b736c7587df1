import os
import socket
from pathlib import Path

import pytest

from vuosd.supervisor.runtime import Place, Running, RuntimeUnavailable, base, connect, control_path


def test_control_path() -> None:
    assert control_path({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/vuosd/control")
    for env in ({}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "x"}):
        with pytest.raises(RuntimeUnavailable):
            base(env)


def test_taken_and_left(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    place = Place(env)
    with place.listen():
        connect(place.control).close()
        child = os.fork()
        if not child:  # the lock is the process's, so only another one is refused
            try:
                Place(env)
            except Running as running:
                os._exit(0 if running.pid == os.getppid() else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
    place.leave()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        connect(place.control)


def test_what_a_dead_daemon_left(tmp_path: Path) -> None:
    directory = tmp_path / "vuosd"
    directory.mkdir(mode=0o755)
    (directory / "lock").touch()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.chdir(directory)
    stale.bind("control")
    os.chdir("/")
    stale.close()
    place = Place({"XDG_RUNTIME_DIR": str(tmp_path)})
    place.listen().close()
    assert directory.stat().st_mode & 0o777 == 0o700
    place.leave()
    assert list(tmp_path.iterdir()) == []


def test_not_a_directory_of_ours(tmp_path: Path) -> None:
    (tmp_path / "vuosd").symlink_to("/tmp")
    with pytest.raises(RuntimeUnavailable, match="Not a directory"):
        Place({"XDG_RUNTIME_DIR": str(tmp_path)})
