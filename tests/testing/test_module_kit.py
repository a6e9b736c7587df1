"""The conformance kit for modules finds what is wrong."""

import errno
import os
from typing import Any

import pytest

from vuosd.api import (
    PROCEED,
    Call,
    Calls,
    Descriptor,
    Ioctls,
    Module,
    ModuleOptions,
    MountAs,
    Paths,
    Stat,
    Types,
)
from vuosd.api.boundaries import Families
from vuosd.modules.asked import NoMethod
from vuosd.testing import ModuleConformance, asking


class Good(Module):
    """Answers a little of everything."""

    class Options(ModuleOptions):
        place: str = "/virtual"

    boundaries = (Calls(("sysinfo",)), Ioctls((0x1234,)), Families((44,)), Types(("good",)))

    def start(self) -> None:
        self.boundaries = (*type(self).boundaries, Paths((self.options.place,)))

    def sysinfo(self, call: Call) -> int:
        call.write(call.args[0], bytes(112))
        return 0

    def ioctl(self, call: Call) -> Any:
        return PROCEED if call.args[0] == 8 else 3

    def socket(self, call: Call) -> Descriptor:
        return Descriptor(os.memfd_create("x"))

    async def stat(self, call: Call) -> Stat:
        if call.path == b"/virtual/dir":
            return Stat.directory()
        raise FileNotFoundError(errno.ENOENT, "")

    def readlink(self, call: Call) -> bytes:
        return b"elsewhere"

    def mount(self, request: Any) -> Any:
        return MountAs("memory") if request.source == "x" else PROCEED


class TestGood(ModuleConformance):
    module = Good()


def test_asking() -> None:
    with asking(Good()) as asked:
        memory = asked.memory
        buffer, text = memory.room(300), memory.room(4)
        assert asked.call("stat", 0, buffer, path="/virtual/dir") == 0
        assert memory.read(buffer + 24, 4) == (0o40555).to_bytes(4, "little")
        assert memory.read(buffer + 144, 1) == b"\xa5"
        assert asked.call("statx", 0, 0, 0, 0, buffer, path="/virtual/dir") == 0
        assert memory.read(buffer + 28, 2) == (0o40555).to_bytes(2, "little")
        assert memory.read(buffer + 256, 1) == b"\xa5"
        assert asked.call("readlink", 0, text, 4, path="/virtual/link") == 4
        assert memory.read(text, 4) == b"else"
        assert asked.call("ioctl", 8, 0x1234) is None
        assert asked.mount("good", "x") == ("memory", "", "")
        assert asked.mount("good", "y") is None
        for name, args, number in (
            ("stat", (0, 8), errno.ENOENT),
            ("readlink", (0, text, 0), errno.EINVAL),
            ("readlink", (0, 8, 4), errno.EFAULT),
            ("sysinfo", (buffer + 290,), errno.EFAULT),
        ):
            with pytest.raises(OSError) as caught:  # noqa: PT011 the number is what counts
                asked.call(name, *args, path="/virtual/x")
            assert caught.value.errno == number


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sysinfo": lambda self, call: call.nothing}, "AttributeError"),
        ({"sysinfo": lambda self, call: -1}, "returned -1"),
        ({"sysinfo": lambda self, call: True}, "returned True"),
        ({"sysinfo": lambda self, call: b"x"}, "returned b'x', which is no result of sysinfo"),
        ({"socket": lambda self, call: Descriptor(999)}, "not open"),
        ({"stat": lambda self, call: Stat(mode=0o644)}, "a mode has a type"),
        ({"readlink": lambda self, call: b""}, "returned a link of 0 bytes"),
    ],
)
def test_a_mistake_is_found(changes: dict[str, Any], said: str) -> None:
    wrong = type("Wrong", (Good,), {"__doc__": "Wrong.", **changes})
    kit = type("Kit", (ModuleConformance,), {"module": wrong()})()
    if "readlink" in changes:  # its size comes first
        with asking(wrong()) as asked, pytest.raises(AssertionError, match=said):
            asked.call("readlink", 0, asked.memory.room(8), 8, path="/virtual/x")
        return
    with pytest.raises(AssertionError, match=said):
        kit.test_calls_with_bad_addresses()


def test_boundaries_without_methods() -> None:
    for boundary, said in (
        (Calls(("times",)), "answers times"),
        (Paths(("/x",), ("unlink",)), "has no method unlink"),
    ):
        wrong = type("Wrong", (Good,), {"boundaries": (boundary,), "start": lambda self: None})
        with pytest.raises(NoMethod, match=said):
            type("Kit", (ModuleConformance,), {"module": wrong()})().test_every_boundary_has_its_method()
