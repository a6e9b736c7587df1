"""For the tests of plugins: serve a file system for the length of a test, and check it against the contract
of vuosd.api.

    served.py       serving(filesystem): a process that serves it, and a Place to look at it
    place.py        Place: the calls of a program, by path; KernelPlace: the kernel makes them, by a FUSE
    mount that nobody else sees wire.py         WirePlace: a small client speaks the kernel's part of FUSE,
    where there is no /dev/fuse reading.py, changing.py
                    what every file system, and every one that can be changed, must do
    conformance.py  FilesystemConformance: a test class to subclass, with both
    modules.py      asking(module): its answers, with a caller's memory; in_view: a program in a view that has
                    it; ModuleConformance: a test class to subclass

A plugin's test file is three lines: a subclass of FilesystemConformance with `filesystem =
Hello(greeting="x")`."""

from vuosd.testing.conformance import FilesystemConformance
from vuosd.testing.modules import Asking, CallersMemory, ModuleConformance, asking, in_view
from vuosd.testing.place import KernelPlace, OpenFile, Place, Status
from vuosd.testing.served import Served, serving, transports
from vuosd.testing.wire import WirePlace

__all__ = [
    "FilesystemConformance",
    "ModuleConformance",
    "asking",
    "Asking",
    "CallersMemory",
    "in_view",
    "Place",
    "OpenFile",
    "Status",
    "KernelPlace",
    "WirePlace",
    "Served",
    "serving",
    "transports",
]
