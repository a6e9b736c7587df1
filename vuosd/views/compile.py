"""A profile file's tables to entries: variables, relative paths, sizes. No I/O, no trio."""

import os
import posixpath
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import UNSET, UnsetType

from vuosd.views.document import Document
from vuosd.views.errors import ProfileError, quote
from vuosd.views.model import Entry, EnvRules, Kind, Layering, ModuleEntry, Position, Served
from vuosd.views.positions import KeyPath
from vuosd.views.profile import (
    Bind,
    Cow,
    Filesystem,
    Hide,
    Merge,
    Mincow,
    ModuleTable,
    Mount,
    Ro,
    Root,
    Tmpfs,
    Unreal,
)
from vuosd.views.table import is_below, is_generated
from vuosd.views.validate import Checked
from vuosd.views.variables import expand

_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_LARGEST: Final = 2**63 - 1


class Compiler:
    """Compiles the files of one view, one after the other, parents first; what a later one says wins."""

    def __init__(self, env: Mapping[str, str], cwd: bytes) -> None:
        self.env = {**env, "PWD": os.fsdecode(cwd)}  # a shell's PWD may be stale, or missing
        self.base = cwd
        self.errors: list[ProfileError] = []
        self.entries: list[Entry] = []
        self.filesystems: list[tuple[Document, Position]] = []
        self.modules: dict[str, ModuleEntry] = {}
        self.name: str | None = None
        self.enforce = False
        self.survive = False
        self.allow: frozenset[str] | None = None
        self.cwd: bytes | None = None
        self.set: dict[str, str] = {}
        self.unset: list[str] = []
        self.keep: list[str] = []

    def add(self, checked: Checked) -> None:
        """One file more."""
        document, view, env = checked.document, checked.profile.view, checked.profile.env
        if view.name is not UNSET:
            self.name = self.string(document, ("view", "name"), view.name)
        if view.enforce is not UNSET:
            self.enforce = view.enforce
        if view.survive is not UNSET:
            self.survive = view.survive
        if checked.profile.control.allow is not UNSET:
            self.allow = frozenset(checked.profile.control.allow)
        if view.cwd is not UNSET:
            self.cwd = self.path(document, ("view", "cwd"), view.cwd, self.base)
        for index, mount in checked.mounts:
            self.mount(document, ("mount", index), mount)
        for index, module in enumerate(checked.profile.module):
            self.module(document, ("module", index), module)
        # A parent's `set` yields to a child's `unset`; within one file `set` has the last word.
        self.set = EnvRules(unset=tuple(env.unset), keep=tuple(env.keep)).apply(self.set)
        for name, text in env.set.items():
            self.variable(document, ("env", "set", name), name, text)
        self.unset += env.unset
        self.keep += env.keep

    def finish(self) -> None:
        """After the last file: what is wrong with the whole."""
        if self.enforce:
            message = "a view with enforce = true can have no file system mounted"
            hint = "what its server shows is beyond the kernel's Landlock"
            self.errors += [document.error(where, message, hint) for document, where in self.filesystems]

    def grants(self) -> frozenset[str] | None:
        """What may be changed from inside; None: everything."""
        return frozenset() if self.allow is None and self.enforce else self.allow

    def env_rules(self) -> EnvRules:
        return EnvRules(self.set, tuple(self.unset), tuple(self.keep))

    def error(self, document: Document, where: Position, message: str, hint: str = "") -> None:
        self.errors.append(document.error(where, message, hint))

    def variable(self, document: Document, at: KeyPath, name: str, text: str) -> None:
        if not name or "=" in name or "\0" in name:
            self.error(document, document.position(at, key=True), f"{quote(name)} cannot name a variable")
        value = self.string(document, at, text)
        if value is not None:
            self.set[name] = value

    def string(self, document: Document, at: KeyPath, text: str) -> str | None:
        """A string with its variables replaced; None when that cannot be, which is then reported."""
        value, problems = expand(text, self.env)
        for problem in problems:
            where = document.inside(at, problem.offset, problem.length)
            self.error(document, where, problem.message, problem.hint)
        if "\0" in value:
            self.error(document, document.position(at), "a NUL character cannot be passed to a program")
            return None
        return None if problems else value

    def path(self, document: Document, at: KeyPath, text: str, base: bytes) -> bytes | None:
        value = self.string(document, at, text)
        if value is None:
            return None
        if not value:
            self.error(document, document.position(at), "this path is empty once its variables are replaced")
            return None
        return normal(os.fsencode(value), base)

    def directory(self, document: Document) -> bytes:
        return posixpath.dirname(normal(document.path, self.base))

    def mount(self, document: Document, at: KeyPath, mount: Mount | Filesystem) -> None:
        if isinstance(mount, Filesystem):
            self.filesystem(document, at, mount)
            return
        if isinstance(mount, Unreal):
            self.served(document, at, mount, Served("unreal", "", b"", "ro" if mount.readonly else ""))
            return
        sources: list[bytes] = []
        if isinstance(mount, Bind | Root | Cow | Merge) and mount.source is not UNSET:
            given = mount.source if isinstance(mount.source, list) else [mount.source]
            for index, text in enumerate(given):
                source_at = (*at, "source", index) if isinstance(mount.source, list) else (*at, "source")
                source = self.path(document, source_at, text, self.directory(document))
                if source is not None:
                    sources.append(source)
            if len(sources) < len(given):
                return
        targets: list[bytes] = []
        for where, target in self.targets(document, at, mount):
            targets.append(target)
            self.entry(document, at, where, mount, target, sources)
        if isinstance(mount, Cow):
            self.exceptions(document, at, mount, targets)

    def targets(
        self, document: Document, at: KeyPath, mount: Mount | Filesystem
    ) -> Iterator[tuple[Position, bytes]]:
        texts = [mount.target] if isinstance(mount.target, str) else mount.target
        for index, text in enumerate(texts):
            target_at = (*at, "target") if isinstance(mount.target, str) else (*at, "target", index)
            target = self.path(document, target_at, text, self.base)
            if target is not None:
                yield document.position(target_at), target

    def filesystem(self, document: Document, at: KeyPath, mount: Filesystem) -> None:
        given = {"type": mount.type, "source": mount.source, "options": mount.options}
        texts = {key: self.string(document, (*at, key), text) for key, text in given.items()}
        kind, source, options = texts["type"], texts["source"], texts["options"]
        if kind is None or source is None or options is None:
            return
        directory = self.directory(document)
        path = normal(os.fsencode(source), directory) if source else b""
        if "/" in kind and not kind.startswith("fuse"):
            kind = os.fsdecode(normal(os.fsencode(kind), directory))
        self.served(document, at, mount, Served(kind, source, path, options))

    def served(self, document: Document, at: KeyPath, mount: Filesystem | Unreal, served: Served) -> None:
        for where, target in self.targets(document, at, mount):
            if target == b"/" and isinstance(mount, Unreal):
                self.error(document, where, 'the tree of the view cannot be shown again at "/"', "below it")
                continue
            if target == b"/":
                hint = "mount it below, and start the command outside of it"
                self.error(document, where, '"/" cannot be a file system of a server', hint)
                continue
            if not isinstance(mount, Unreal):
                self.filesystems.append((document, where))
            self.entries.append(Entry(Kind.FILESYSTEM, target, served=served, where=where))

    def module(self, document: Document, at: KeyPath, module: ModuleTable) -> None:
        name = self.string(document, (*at, "name"), module.name)
        options = self.string(document, (*at, "options"), module.options)
        if name is None or options is None:
            return
        if "/" in name:
            path, colon, attribute = name.partition(":")
            name = os.fsdecode(normal(os.fsencode(path), self.directory(document))) + colon + attribute
        where = document.position((*at, "name"))
        self.modules[name] = ModuleEntry(name, options, module.load, where)

    def entry(
        self,
        document: Document,
        at: KeyPath,
        where: Position,
        mount: Mount,
        target: bytes,
        sources: list[bytes],
    ) -> None:
        source = sources[0] if sources else None
        match mount:
            case Bind():
                source = target if source is None else source
                entry = Entry(
                    Kind.BIND, target, source, readonly=mount.readonly, optional=mount.optional, where=where
                )
            case Root():
                entry = Entry(Kind.ROOT, target, source, readonly=mount.readonly, where=where)
            case Ro():
                entry = Entry(Kind.RO, target, optional=mount.optional, where=where)
            case Hide():
                if target == b"/":
                    hint = 'an empty root is type = "tmpfs"'
                    self.error(document, where, '"/" cannot be hidden: nothing would be left', hint)
                    return
                entry = Entry(Kind.HIDE, target, where=where)
            case Tmpfs():
                size = self.size(document, (*at, "size"), mount.size)
                entry = Entry(Kind.TMPFS, target, size=size, mode=int(mount.mode, 8), where=where)
            case Cow():
                if is_generated(target if source is None else source):
                    hint = "what is written there is a command, and cannot be kept"
                    self.error(document, where, "a cow cannot be of /proc or /sys", hint)
                    return
                size = self.size(document, (*at, "size"), mount.size)
                layering = self.layering(document, at, mount)
                entry = Entry(
                    Kind.COW,
                    target,
                    source,
                    size=size,
                    optional=mount.optional,
                    layering=layering,
                    where=where,
                )
            case Merge():
                more = tuple(sources[1:])
                entry = Entry(Kind.MERGE, target, source, more=more, readonly=not mount.writable, where=where)
        self.entries.append(entry)

    def layering(self, document: Document, at: KeyPath, mount: Cow) -> Layering:
        store: bytes | None = None
        if mount.store is not UNSET:
            store = self.path(document, (*at, "store"), mount.store, self.directory(document))
        return Layering(isinstance(mount, Mincow), mount.ephemeral, mount.fsync == "yes", store)

    def exceptions(self, document: Document, at: KeyPath, mount: Cow, targets: list[bytes]) -> None:
        """Binds of the real paths over the cow."""
        for index, text in enumerate(mount.except_):
            each_at = (*at, "except", index)
            value = self.string(document, each_at, text)
            if value is None:
                continue
            where = document.position(each_at)
            paths = [(target, normal(os.fsencode(value), target)) for target in targets]
            inside = [path for target, path in paths if is_below(path, target)]
            if targets and not inside:
                hint = "a path in it, relative to it or absolute"
                self.error(document, where, f"this is not in {' or '.join(map(quote, targets))}", hint)
            self.entries += [Entry(Kind.BIND, path, optional=mount.optional, where=where) for path in inside]

    def size(self, document: Document, at: KeyPath, size: int | str | UnsetType) -> int | None:
        if isinstance(size, UnsetType):
            return None
        if isinstance(size, str):
            size = bytes_of(size)
        if not 0 < size <= _LARGEST:
            error = document.error(document.position(at), "this size is out of range", "1 byte to 8 EiB")
            if error not in self.errors:  # once, however many targets the mount has
                self.errors.append(error)
        return size


def bytes_of(size: str) -> int:
    """Of "64M", "1GiB", "4096"; ValueError or KeyError for what is none."""
    digits = size.rstrip("iBKkMmGgTt")
    return int(digits[:20]) << _UNITS[size[len(digits) :][:1].upper()]


def normal(path: bytes, base: bytes) -> bytes:
    """Absolute, normalised, without a trailing slash. ".." takes away the name before it, symlink or not."""
    path = posixpath.normpath(posixpath.join(base, path))
    return (
        path[1:] if path.startswith(b"//") else path
    )  # POSIX lets two slashes mean something else; Linux does not
