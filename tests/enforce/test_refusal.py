"""A kernel without the Landlock that enforcement needs: refused, with what it has; other views start."""

import json
from pathlib import Path

import pytest
from harness.box import Box
from harness.programs import Programs

from vuosd.supervisor import floor

pytestmark = [pytest.mark.kernel, pytest.mark.private]

PROFILE = '[view]\nenforce = {}\n[[mount]]\ntype = "hide"\ntarget = "{}/hidden"\n'


_PLUGIN = """
import os, resource, socket
from vuosd.api import Value, Values

def failed(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.strerror

class Said(Values):
    def tree(self):
        said = failed(socket.socket, socket.AF_UNIX), failed(resource.prlimit, os.getppid(), 0)
        return {"said": Value(lambda: ", ".join(map(str, said)))}
"""


def without_landlock(programs: Programs, answer: str) -> list[Path | str]:
    """A command prefix: below it landlock_create_ruleset(2) fails with `answer`."""
    return [programs.build(Path(__file__).parent / "no_landlock.c", "-static"), answer]


@pytest.mark.parametrize(("answer", "says"), [
    ("ENOSYS", "has no Landlock"), ("EOPNOTSUPP", "has no Landlock"),
])  # fmt: skip
def test_refused(box: Box, answer: str, says: str) -> None:
    prefix = without_landlock(box.programs, answer)
    profile = PROFILE.format("true", box.scratch)
    result = box.native([*prefix, *box.vuos_run(profile), "echo", "started"])
    assert (result.returncode, result.stdout) == (125, "")
    assert says in result.stderr
    assert "Landlock ABI 6" in result.stderr
    assert "6.12" in result.stderr


def test_an_older_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter can make a call fail, but not give an older version; so this asks the floor itself."""
    monkeypatch.setattr(floor, "kernel_abi", lambda: 3)
    with pytest.raises(
        floor.FloorUnavailable, match=r"needs Landlock ABI 6 \(Linux 6.12\).*has Landlock ABI 3"
    ):
        floor.ruleset([])


def test_other_views_need_none(box: Box) -> None:
    prefix = without_landlock(box.programs, "ENOSYS")
    profile = PROFILE.format("false", box.scratch)
    result = box.native([*prefix, *box.vuos_run(profile), "echo", "started"]).check()
    assert result.stdout == "started\n"


def test_servers_of_file_systems_are_told_to_be_unbounded(box: Box) -> None:
    """They run all the same, and what needs no Landlock holds for them."""
    prefix = without_landlock(box.programs, "EOPNOTSUPP")
    told = json.loads(box.native([*prefix, box.installation.bin / "vuctl", "doctor", "--json"]).stdout)
    found = next(one for one in told["findings"] if one["name"] == "bounds of servers")
    assert found["state"] == "limited"
    assert "no Landlock" in found["found"]
    plugin = box.file("plugin.py", _PLUGIN)
    script = 'vumount -t python "$1" "$2"; cat "$2/said"'
    words = [*box.vuos_run(), "sh", "-ec", script, "sh", plugin, box.directory("mnt")]
    assert box.native([*prefix, *words]).check().stdout == "Permission denied, Operation not permitted"


def test_here_it_starts(box: Box) -> None:
    profile = PROFILE.format("true", box.scratch)
    assert box.native([*box.vuos_run(profile), "echo", "started"]).check().stdout == "started\n"
