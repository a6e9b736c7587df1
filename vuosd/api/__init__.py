"""What plugin authors import; everything else of vuosd may change from one day to the next.

    filesystem.py   Filesystem: subclass it, override methods named like the system calls they answer
    files.py        File, what `open` returns; MemFile, HostFile, StreamFile are ready-made ones
    values.py       Values: a tree of generated files, as /proc is; of Value and Directory
    status.py       Stat and StatFs, what `lstat` and `statfs` return; caller(), who asks
    module.py       Module: subclass it to answer system calls; Call, one that waits; what can be returned
    boundaries.py   which calls those are: Calls, Paths, Ioctls, Families, Types
    options.py      MountOptions, ModuleOptions: options as a typed schema; OptionError
    types.py        FileSystemType: a type of file system, and how its server process is started
    registry.py     find(), filesystems(): the types there are, by entry points, VUOS's names, files of the
    user's

A file system runs in a process of its own (`vuosd.fuse.host`) as a FUSE server. Nothing here imports trio or
pyfuse3, so that looking for a type costs little.

Errors: a method answers the process that asks by raising OSError with an errno. Any other exception is a
mistake of the plugin: the process gets EIO, the log one line. So is a result that makes no sense.
"""

from vuosd.api.boundaries import Boundary, Calls, Families, Ioctls, Paths, Types
from vuosd.api.files import File, HostFile, MemFile, StreamFile
from vuosd.api.filesystem import Filesystem
from vuosd.api.module import PROCEED, Call, Descriptor, Memory, Module, MountAs, MountRequest
from vuosd.api.options import ModuleOptions, MountOptions, OptionError
from vuosd.api.registry import filesystems, find, modules, plugin_directory
from vuosd.api.status import Caller, Stat, StatFs, caller
from vuosd.api.types import FileSystemType, Needs, ProgramType, PythonType, Server, TypeProblem
from vuosd.api.values import Directory, Entries, Value, Values

API_VERSION = 1
"""Rises when a plugin written for the version before would no longer work."""

__all__ = [
    "API_VERSION",
    "Filesystem",
    "File",
    "MemFile",
    "HostFile",
    "StreamFile",
    "Values",
    "Value",
    "Directory",
    "Entries",
    "Stat",
    "StatFs",
    "Caller",
    "caller",
    "MountOptions",
    "OptionError",
    "Module",
    "ModuleOptions",
    "Calls",
    "Paths",
    "Ioctls",
    "Families",
    "Types",
    "Boundary",
    "Call",
    "Memory",
    "Descriptor",
    "PROCEED",
    "MountRequest",
    "MountAs",
    "FileSystemType",
    "Needs",
    "ProgramType",
    "PythonType",
    "Server",
    "TypeProblem",
    "filesystems",
    "find",
    "modules",
    "plugin_directory",
]
