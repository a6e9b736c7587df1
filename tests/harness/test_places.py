"""The places are what they say, and a view works in each: also with a private daemon."""

import pytest

from harness import places
from harness.box import Box

LISTING = [
    "/bin/sh",
    "-c",
    "cd /etc && cat passwd | wc -l && ls | wc -l && ls -l /proc/self/cwd | grep -o '/etc$'",
]


@pytest.mark.kernel
@pytest.mark.places(*places.ALL)
def test_view_in_every_place(box: Box) -> None:
    hidden = box.file("hidden/secret", "x")
    etc = box.scratch / "etc"
    profile = f"""
[[mount]]
type = "hide"
target = "{hidden}"
[[mount]]
type = "bind"
source = "/etc"
target = "{etc}"
"""
    assert box.view(LISTING, profile).check().stdout == box.native(LISTING).check().stdout
    script = f"cd {etc} && cat passwd && pwd; cat {hidden}"
    out = box.view(["/bin/sh", "-c", script], profile)
    assert out.stdout.endswith(f"{etc}\n")
    assert "root:" in out.stdout
    assert "No such file or directory" in out.stderr


@pytest.mark.kernel
@pytest.mark.private
@pytest.mark.places(*places.ALL)
def test_private_daemon_in_every_place(box: Box) -> None:
    assert box.view(LISTING).check().stdout == box.native(LISTING).check().stdout


@pytest.mark.kernel
@pytest.mark.places(places.NO_USERNS, places.DOCKER)
def test_no_user_namespaces(box: Box) -> None:
    assert box.native(["unshare", "--user", "true"]).returncode != 0


@pytest.mark.kernel
@pytest.mark.places(places.NO_FUSE)
def test_no_fuse(box: Box) -> None:
    assert box.native(["test", "-e", "/dev/fuse"]).returncode == 1


@pytest.mark.kernel
@pytest.mark.places(places.ANCESTORS)
def test_only_ancestors(box: Box) -> None:
    memory = [box.programs.confine, *box.place.daemon, "--", "/bin/sh", "-c", "head -c0 /proc/$PPID/mem"]
    assert "denied" in box.native(memory).stderr
