"""Workers as root and as an ordinary user, where the machine gives less."""

import pytest
from harness import places
from harness.box import Box

pytestmark = pytest.mark.kernel

PLAIN_TMPFS = '[[mount]]\ntype = "tmpfs"\ntarget = "/mnt"\n'
SIZED_TMPFS = '[[mount]]\ntype = "tmpfs"\ntarget = "/mnt"\nsize = "1M"\n'
FILL = "echo x > /mnt/f && mkdir -p /mnt/d && chmod 0 /mnt/d && cat /mnt/f"


@pytest.mark.places(*places.ALL)
def test_directory_without_a_size_works_everywhere(box: Box) -> None:
    assert box.view(["/bin/sh", "-c", FILL], PLAIN_TMPFS).check().stdout == "x\n"


@pytest.mark.places(places.PLAIN, places.NO_FUSE, places.ANCESTORS)
def test_sized_directory(box: Box) -> None:
    assert box.view(["/bin/sh", "-c", FILL], SIZED_TMPFS).check().stdout == "x\n"
    full = box.view(["/bin/sh", "-c", "head -c 2000000 /dev/zero > /mnt/f"], SIZED_TMPFS)
    assert full.returncode
    assert "No space left" in full.stderr


@pytest.mark.only("user")
@pytest.mark.places(places.NO_USERNS, places.DOCKER)
def test_sized_directory_refused_at_its_line(box: Box) -> None:
    refused = box.view(["/bin/true"], SIZED_TMPFS)
    assert refused.returncode == 125
    assert (
        ".toml:1:1: a tmpfs with a size" in refused.stderr or ":3:10: a tmpfs with a size" in refused.stderr
    )
    assert "vuctl doctor" in refused.stderr


@pytest.mark.private
@pytest.mark.places(*places.ALL)
def test_private(box: Box) -> None:
    assert box.view(["/bin/sh", "-c", FILL], PLAIN_TMPFS).check().stdout == "x\n"
