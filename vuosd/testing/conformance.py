"""FilesystemConformance: subclass it, say which file system, and pytest checks that against the contract,
on every transport here."""

import stat
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from vuosd.api import Filesystem
from vuosd.testing import changing, reading
from vuosd.testing.place import Place
from vuosd.testing.served import Transport, serving, transports


class FilesystemConformance:
    """class TestHello(FilesystemConformance):
            filesystem = Hello(greeting="x")

    `filesystem` may also be a function that makes one (a class attribute: wrap it in staticmethod). A check
    of methods that the file system does not override is left out by having no such test: see
    `changing.NEEDS`."""

    filesystem: ClassVar[Any]
    deadline: ClassVar[float | None] = 20.0

    @classmethod
    def made(cls) -> Filesystem:
        """The file system to check."""
        made = cls.filesystem
        made = made if isinstance(made, Filesystem) else made()
        assert isinstance(made, Filesystem)
        return made

    @pytest.fixture(params=transports())
    def place(self, request: pytest.FixtureRequest) -> Iterator[Place]:
        """It, served."""
        transport: Transport = request.param
        with serving(self.made(), transport, self.deadline) as served:
            yield served.place
            assert not served.log(), f"the plugin's mistakes, as the log has them: {served.log()}"

    def test_root(self, place: Place) -> None:
        reading.root(place)

    def test_listings(self, place: Place) -> None:
        reading.listings(place)

    def test_numbers(self, place: Place) -> None:
        reading.numbers(place)

    def test_links(self, place: Place) -> None:
        reading.links(place)

    def test_contents(self, place: Place) -> None:
        reading.contents(place)

    def test_absent(self, place: Place) -> None:
        reading.absent(place)

    def test_changes(self, place: Place) -> None:
        """Each that the file system has methods for; all of them refused, if it is read-only."""
        made = self.made()
        if made.readonly:
            reading.refuses_changes(place)
            return
        before = list(reading.walk(place))
        if made.answers("mkdir"):
            place.mkdir(changing.TOP)
            for check, methods in changing.NEEDS.items():
                if all(made.answers(method) for method in methods):
                    check(place)
            place.rmdir(changing.TOP)
        # What was there before is still the same, but for the times of the root.
        after = {path: status for path, status in reading.walk(place) if not stat.S_ISDIR(status.mode)}
        for path, status in before:
            if not stat.S_ISDIR(status.mode):
                assert after.get(path) == status, f"{path} has been changed, too"
