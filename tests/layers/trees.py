"""Trees for the tests of layers: written down as dictionaries, made on disk, read back, compared."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vuosd.layers import Layer, create, open_layer
from vuosd.layers.commit import commit as do_commit
from vuosd.layers.commit import outlook

WHEN = 1_600_000_000_000_000_000  # ns; the time that things have unless the test says another


@dataclass
class File:
    content: bytes = b""
    mode: int = 0o644
    mtime: int = WHEN
    xattrs: dict[str, bytes] = field(default_factory=dict)
    same_as: bytes | None = None  # another name of that path's file


@dataclass
class Dir:
    mode: int = 0o755
    xattrs: dict[str, bytes] = field(default_factory=dict)
    mtime: int = WHEN


@dataclass
class Link:
    text: bytes


@dataclass
class Pipe:
    mode: int = 0o644


@dataclass
class Whiteout:
    """`attribute`: the form for where mknod is refused."""

    attribute: bool = False


Thing = File | Dir | Link | Pipe | Whiteout | bytes
Spec = Mapping[bytes, Thing]
OPAQUE = {"user.overlay.opaque": b"y"}


def build(root: bytes | Path, spec: Spec) -> bytes:
    """Make it below `root`, which may be there; directories that lead to a path are made as they must be."""
    top = os.fsencode(root)
    os.makedirs(top, exist_ok=True)
    for path, thing in spec.items():
        full = os.path.join(top, path) if path else top
        if not os.path.isdir(os.path.dirname(full)):
            os.makedirs(os.path.dirname(full))
        _make(top, full, File(thing) if isinstance(thing, bytes) else thing)
    # The times last, and from below: each entry that is made changes its directory's.
    for path in sorted(_paths(top), key=len, reverse=True):
        thing = spec.get(os.path.relpath(path, top) if path != top else b"", Dir())
        mtime = getattr(thing, "mtime", WHEN)
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
    for path, thing in sorted(spec.items(), reverse=True):
        if isinstance(thing, Dir):
            os.chmod(os.path.join(top, path) if path else top, thing.mode)
    return top


def _make(top: bytes, full: bytes, thing: Thing) -> None:
    match thing:
        case File(same_as=bytes() as other):
            os.link(os.path.join(top, other), full)
            return
        case File(content, mode):
            Path(os.fsdecode(full)).write_bytes(content)
            os.chmod(full, mode)
        case Dir():
            os.makedirs(full, exist_ok=True)
        case Link(text):
            os.symlink(text, full)
        case Pipe(mode):
            os.mkfifo(full, mode)
        case Whiteout(attribute=False):
            os.mknod(full, stat.S_IFCHR, 0)
        case Whiteout():
            Path(os.fsdecode(full)).touch()
            os.setxattr(full, "user.overlay.whiteout", b"")
            os.setxattr(os.path.dirname(full), "user.overlay.opaque", b"x")
    for name, value in getattr(thing, "xattrs", {}).items():
        os.setxattr(full, name, value)


def _paths(top: bytes) -> Iterator[bytes]:
    yield top
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            yield os.path.join(directory, name)


def read(root: bytes | Path, *, times: bool = True) -> dict[bytes, Any]:
    """Everything that counts of a tree, by path; links by the first of their names."""
    top = os.fsencode(root)
    found: dict[bytes, Any] = {}
    first: dict[tuple[int, int], bytes] = {}
    for path in sorted(_paths(top)):
        try:
            st = os.lstat(path)
        except FileNotFoundError:
            continue  # the kernel lists whiteouts in directories that only the layer has, and that is all
        name = os.path.relpath(path, top) if path != top else b""
        what: Any = stat.S_IFMT(st.st_mode)
        if stat.S_ISREG(st.st_mode):
            what = Path(os.fsdecode(path)).read_bytes()
            if st.st_nlink > 1:
                what = (what, first.setdefault((st.st_dev, st.st_ino), name))
        elif stat.S_ISLNK(st.st_mode):
            what = ("link", os.readlink(path))
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            what = (what, st.st_rdev)
        names = os.listxattr(path, follow_symlinks=False)
        own = [name for name in names if ".overlay." not in name and name != "security.selinux"]
        xattrs = {attribute: os.getxattr(path, attribute, follow_symlinks=False) for attribute in own}
        mode = None if stat.S_ISLNK(st.st_mode) else stat.S_IMODE(st.st_mode)
        mtime = st.st_mtime_ns if times and not stat.S_ISDIR(st.st_mode) else None
        found[name] = (what, mode, st.st_uid, st.st_gid, mtime, xattrs)
    return found


@dataclass
class Made:
    """A layer over a real tree, both made from specifications."""

    lower: bytes
    layer: Layer
    store: bytes
    env: dict[str, str]

    @property
    def upper(self) -> bytes:
        return self.layer.trees[0].upper

    def note(self, path: bytes, st: os.stat_result | None = None) -> None:
        """Into the book of origins, as the engine would before it takes the place of what is below."""
        st = st or os.lstat(os.path.join(self.lower, path) if path else self.lower)
        with open(self.layer.trees[0].origins, "ab") as book:
            book.write(
                b"%d %d %o %d %d %d %s\0"
                % (st.st_dev, st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns, path)
            )

    def note_all(self) -> None:
        """Everything of the lower tree that the upper has something for, or hides."""
        open(self.layer.trees[0].origins, "ab").close()
        for path in _paths(self.lower):
            name = os.path.relpath(path, self.lower) if path != self.lower else b""
            self.note(name)


def make(directory: Path, lower: Spec, upper: Spec, *, name: str = "it", book: bool = True) -> Made:
    """The layer is closed (not locked)."""
    store = os.fsencode(directory / "state" / "vuos")
    env = {"XDG_STATE_HOME": str(directory / "state"), "HOME": str(directory)}
    real = build(directory / "real", lower)
    layer = create(name, [(real, (real,))], env)
    layer.close()
    made = Made(real, layer, store, env)
    if book:
        made.note_all()
    build(made.upper, upper)
    return made


def summary(root: bytes | Path) -> dict[bytes, Any]:
    """A tree on the disk, as model.plain() has it."""
    found: dict[bytes, Any] = {}
    for path, (what, mode, _, _, mtime, xattrs) in read(root).items():
        if isinstance(what, tuple) and isinstance(what[0], bytes):
            what = what[0]
        if isinstance(what, bytes):
            found[path] = ("file", what, mode, mtime, xattrs)
        elif isinstance(what, tuple) and what[0] == "link":
            found[path] = what
        elif what == stat.S_IFDIR:
            found[path] = ("directory", mode)
        else:
            found[path] = ("pipe", mode)
    return found


def commit(made: Made, *paths: bytes, resolution: str | None = None, name: str = "it") -> dict[bytes, str]:
    """Commit all or `paths`; there must be no conflicts."""
    with open_layer(name, made.env) as layer:
        wanted = {layer.trees[0]: list(paths)} if paths else None
        found = outlook(layer, wanted, resolution)
        for of in found.values():
            assert (of.conflicts, of.denied) == ([], [])
        return do_commit(layer, found)
