"""Who uses a mount, found in /proc while processes come and go."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from harness.programs import Programs

from vuosd.supervisor import members
from vuosd.supervisor.mounting import users

_LOOKS, _SECONDS = 500, 3.0
_CHAIN = """
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the directory argv[1] a process forks and ends, over and over, until there is argv[2]. */
int main(int argc, char **argv)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGCHLD, SIG_IGN); /* none of them is left as a zombie */
	if (argc != 3)
		return 2;
	if (fork()) {
		wait(NULL); /* for the last of them */
		return 0;
	}
	if (chdir(argv[1]) < 0)
		return 1;
	while (access(argv[2], F_OK) < 0)
		if (fork())
			_exit(0);
	return 0;
}
"""


@pytest.mark.kernel
def test_who_hands_on(tmp_path: Path, programs: Programs) -> None:
    """One that forks and ends, over and over, is there each time we look; nobody of another session is."""
    used, enough = tmp_path / "used", tmp_path / "enough"
    used.mkdir()
    session = members.new_session()
    uses = users.uses_below(os.fsencode(used))
    looks: list[list[users.User]] = []
    tagged = ["prlimit", f"--locks={session << members.STATE_BITS | 1}:"]
    with subprocess.Popen([*tagged, programs.source("handing_on", _CHAIN, "-static"), used, enough]) as chain:
        try:
            while chain.poll() is None and not users.of_members(session, uses):
                pass  # not there yet
            end = time.monotonic() + _SECONDS
            while len(looks) < _LOOKS and time.monotonic() < end:
                looks.append(users.of_members(session, uses))
            others = users.of_members(members.new_session(), uses)
        finally:
            enough.touch()
    assert all(looks), f"missed {looks.count([])} times of {len(looks)}"
    assert others == users.of_members(session, uses) == []
