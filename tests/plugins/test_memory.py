"""memory, by the conformance kit."""

from vuosd.plugins.memory import Memory
from vuosd.testing import FilesystemConformance


class TestMemory(FilesystemConformance):
    filesystem = Memory()
