import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness import processes

from vuosd.supervisor import members

pytestmark = pytest.mark.kernel


@pytest.fixture
def session() -> Iterator[int]:
    session = members.new_session()
    yield session
    members.kill(session)


def start(session: int, state: int, *command: str) -> "subprocess.Popen[bytes]":
    tag = session << members.STATE_BITS | state
    script = f"import os,resource,sys; resource.setrlimit(10, ({tag}, resource.RLIM_INFINITY));"
    script += "os.execv(sys.argv[1], sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", script, *command])


def test_tag_goes_to_children_and_orphans(session: int) -> None:
    process = start(session, 5, "/bin/sh", "-c", "(setsid sleep 100 &); sleep 100")
    assert processes.until(lambda: len(members.of_session(session)) == 3)
    assert members.tag_of(process.pid) == (session, 5)
    assert members.kill(session)
    assert process.wait(5) == -signal.SIGKILL
    assert members.of_session(session) == []


def test_kill_is_faster_than_a_tree_that_forks(session: int) -> None:
    process = start(
        session, 0, "/bin/sh", "-c", "while :; do (sleep 0.05; sleep 0.05) & done 2>/dev/null; wait"
    )
    assert processes.until(lambda: len(members.of_session(session)) > 20)
    assert members.kill(session)
    process.wait(5)
    assert members.of_session(session) == []


def test_supervisors_are_no_members(session: int) -> None:
    process = start(session, members.SUPERVISOR, "/bin/sleep", "100")
    assert processes.until(lambda: members.tag_of(process.pid) is not None)
    assert members.of_session(session) == []
    process.kill()
    process.wait()


def test_the_untagged_and_the_gone() -> None:
    assert members.tag_of(os.getpid()) is None
    assert members.tag_of(2**22 + 1) is None
    assert resource.getrlimit(members.RLIMIT_LOCKS)[0] == resource.RLIM_INFINITY


def test_session_numbers_fit() -> None:
    numbers = {members.new_session() for _ in range(1000)}
    assert len(numbers) == 1000
    assert all(0 < number < 1 << 38 for number in numbers)


KEEPER = """
import ctypes, os, resource, sys
ctypes.CDLL(None).prctl(36, 1)
if not os.fork():
    resource.setrlimit(10, (int(sys.argv[1]), resource.RLIM_INFINITY))
    os.system("sleep 100 &")
    os._exit(0)
os.wait()
os.wait()
"""


def test_who_descends_from_a_keeper_is_spared(session: int) -> None:
    tag = session << members.STATE_BITS
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(tag)])

    def names() -> list[str]:
        found = [processes.look(pid) for pid in members.of_session(session)]
        return [process.name for process in found if process is not None]

    assert processes.until(lambda: names() == ["sleep"])
    (orphan,) = members.of_session(session)
    other = start(session, 0, "/bin/sleep", "100")
    assert processes.until(lambda: len(members.of_session(session)) == 2)
    assert members.below(orphan, [keeper.pid])
    assert not members.below(other.pid, [keeper.pid])
    assert not members.below(2**22 + 1, [keeper.pid])
    assert members.kill(session, but=[keeper.pid])
    assert members.of_session(session) == [orphan]
    assert members.kill(session)
    keeper.wait(5)
    other.wait(5)
