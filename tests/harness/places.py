"""Where a test runs: this machine, or this machine with something refused, as other machines refuse it.

Made by tests/harness/confine.c around the programs, so the machine is the same for everybody else.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    name: str
    around: tuple[str, ...] = ()  # confine's arguments for everything that runs there
    daemon: tuple[str, ...] = ()  # and for vuosd alone

    def __str__(self) -> str:
        return self.name


PLAIN = Place("plain")
NO_USERNS = Place("no-userns", around=("no-userns",))
NO_FUSE = Place("no-fuse", around=("no-fuse",))
FUSE = Place("fuse", around=("fuse",))
DOCKER = Place("docker", around=("docker",))
ANCESTORS = Place("ancestors", daemon=("ancestors",))
ALL = (PLAIN, NO_USERNS, NO_FUSE, DOCKER, ANCESTORS)
BY_NAME = {place.name: place for place in (*ALL, FUSE)}
