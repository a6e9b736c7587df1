"""How long somebody waits for a server's end."""

import pytest

from vuosd.supervisor.mounting import options, unmounting
from vuosd.supervisor.mounting.mount import WIRE, Mount
from vuosd.supervisor.mounting.unmounting import Unmounting


def hung(flags: int) -> Mount:
    """One of ours, whose server does not end."""
    mount = Mount("type", "source", b"/mnt", flags, "", transport=WIRE, path=b"/cache")
    mount.mark = "mark"
    return mount


@pytest.mark.parametrize("flags", [0, options.MS_RDONLY], ids=["writable", "readonly"])
async def test_a_server_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch, nursery: object, flags: int
) -> None:
    """Where it may have had something to write, that it was killed is told."""
    killed: list[Mount] = []

    async def end(self: Unmounting, mount: Mount) -> None:
        killed.append(mount)

    monkeypatch.setattr(Unmounting, "_end", end)
    monkeypatch.setattr(unmounting, "_FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(unmounting, "_NOTHING_SECONDS", 0.01)
    monkeypatch.setattr(Unmounting, "nursery", nursery)
    mounts = object.__new__(Unmounting)
    assert await mounts._is_over(hung(flags)) == bool(flags)
    assert bool(killed) != bool(flags)
