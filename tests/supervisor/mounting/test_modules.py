import errno

import pytest

from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.modules import BuiltIn


def refused(number: int, call: object, *arguments: object) -> str:
    assert callable(call)
    with pytest.raises(MountError) as raised:
        call(*arguments)
    assert raised.value.errno == number
    return str(raised.value)


def test_loaded_listed_unloaded() -> None:
    modules = BuiltIn()
    modules.load("fuse", False)
    assert [name for name, _ in modules.listed()] == ["fuse"]
    refused(errno.EEXIST, modules.load, "fuse", False)
    modules.unload("fuse", [])
    assert modules.listed() == []
    refused(errno.ENOENT, modules.unload, "fuse", [])


def test_unknown() -> None:
    assert "did you mean vufuse?" in refused(errno.ENOENT, BuiltIn().load, "vufus", False)


def test_in_use_only_by_its_own_mounts() -> None:
    modules = BuiltIn()
    modules.load("fuse", False)
    modules.load("vufuse", False)
    served = [("/ours", True)]
    assert "/ours" in refused(errno.EBUSY, modules.unload, "vufuse", served)
    modules.unload("fuse", served)


def test_for_good() -> None:
    modules = BuiltIn()
    modules.load("fuse", True)
    refused(errno.EBUSY, modules.unload, "fuse", [])
