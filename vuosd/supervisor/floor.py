"""The kernel floor of an enforcing view: a Landlock ruleset that holds when a race against us is won.

In: the view's flattened entries. Out: a descriptor that the launcher applies to itself before it starts the
command.

A rule can only allow, and holds for all that lies beneath. Withholding a path inside an allowed tree is
therefore written as rules for the siblings: no directory on the way to it has a rule, each of their other
children has its own. What follows:

- Directly in such a directory, and in what is made there after the start, the kernel itself allows nothing:
  not a listing, not a new file, not the start of a program. The engine acts there on the process's behalf (an
  injected descriptor carries all rights); a program that must be executed natively has to lie beneath a rule.
- A path that is withheld and does not exist yet splits its ancestors all the same: it may come to exist.
- A symbolic link has no rule: what it leads to is judged where that lies. A target that is one is followed,
  as mount(2) would.
- A hard link is judged by the directory in which it was opened (the kernel walks up from the path,
  security/landlock/fs.c), so a hidden file that has a second name beneath a rule stays readable by that name.
  Making such a link from within is refused: the hidden name cannot be reached to link it. The same holds for
  a second mount of a file system beneath a rule.
- Below /proc nothing is split: its directories come and go with the processes. The kernel's ptrace check,
  which a Landlock domain narrows to itself, guards memory and root of foreign processes; the engine answers
  for the rest. (With CAP_PERFMON or CAP_SYS_ADMIN the environment and the maps of foreign processes stay
  readable: may_access_mm in kernel/fork.c is content with these on 6.18.)
- Of a COW and a MERGE the kernel allows reading the trees: whatever changes them is done by the engine.
- Landlock does not govern stat, chmod, chown, utimes, xattrs, chdir or pathname sockets.
"""

import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from errno import EBADFD, ENOSYS, EOPNOTSUPP
from types import MappingProxyType
from typing import NamedTuple

from vuosd.abi import landlock
from vuosd.abi.landlock import Access
from vuosd.supervisor.engine._engine import lib
from vuosd.views.model import Entry, Kind

_FILE = int(landlock.FILE)

REQUIRED_ABI = 6
"""Linux 6.12: the first whose domains also bound signals and abstract sockets."""


class FloorUnavailable(Exception):
    """The kernel cannot give the floor that the view asks for."""


class Rule(NamedTuple):
    """What is allowed on a path and beneath it."""

    path: bytes
    access: Access


class Child(NamedTuple):
    """A directory's entry; `type` is S_IFDIR, S_IFREG, S_IFLNK, or 0 for any other."""

    name: bytes
    type: int


Listdir = Callable[[bytes], Iterable[Child]]


class _Grant(NamedTuple):
    """A host tree that the view shows somewhere, without the holes that other entries make in it."""

    source: bytes
    access: Access
    holes: set[bytes]
    ours: bool = False
    """A layer's changed tree: what is withheld of it and is not there cannot come to be there."""


def rules(
    entries: Iterable[Entry],
    listdir: Listdir,
    *,
    resolve: Callable[[bytes], bytes] = lambda path: path,
    anchors: Iterable[bytes] = (),
    uppers: Mapping[bytes, Sequence[bytes]] = MappingProxyType({}),
    reserved: Iterable[bytes] = (),
) -> list[Rule]:
    """The rules that allow what the view shows of the host, and nothing else.

    `resolve` follows symbolic links (realpath); `anchors` are directories of the session itself; `uppers`,
    of each COW by its target, the changed trees: what they hold is executed by the processes themselves;
    `reserved`, those of COWs that come later.
    """
    found: dict[bytes, Access] = {}
    for grant in _grants(entries, resolve, uppers, listdir):
        for path, access in _split(grant, listdir):
            known = found.get(path)
            found[path] = access if known is None else known | access
    for path in reserved:
        found[path] = landlock.READ
    for path in anchors:
        found[path] = landlock.ALL
    return [Rule(path, access) for path, access in sorted(found.items())]


def _grants(
    entries: Iterable[Entry],
    resolve: Callable[[bytes], bytes],
    uppers: Mapping[bytes, Sequence[bytes]],
    listdir: Listdir,
) -> Iterable[_Grant]:
    grants: dict[bytes, list[_Grant]] = {b"/": [_Grant(b"/", landlock.ALL, set())]}
    for entry in entries:
        sources = () if entry.kind in (Kind.HIDE, Kind.TMPFS) else entry.sources
        reads = entry.readonly or entry.kind in (Kind.COW, Kind.MERGE)
        access = landlock.READ if reads else landlock.ALL
        grants[resolve(entry.target)] = [_Grant(resolve(source), access, set()) for source in sources]
        grants[resolve(entry.target)] += [
            _Grant(resolve(upper), access, set(), True) for upper in uppers.get(entry.target, ())
        ]
    for target in sorted(
        grants, key=len, reverse=True
    ):  # deeper ones first: their holes are complete by then
        above = _above(target, grants)
        for parent in grants[above] if above is not None else ():
            hole = os.path.join(parent.source, os.path.relpath(target, above))
            same = [one for one in grants[target] if one.source == hole and parent.access in one.access]
            if same:
                parent.holes.update(same[0].holes)  # the same tree, the same rights or more: nothing to cut
            elif not hole.startswith(b"/proc/") and not (parent.ours and _absent(hole, listdir)):
                parent.holes.add(hole)
    return [grant for several in grants.values() for grant in several]


def _above(target: bytes, grants: Mapping[bytes, object]) -> bytes | None:
    """The nearest target that contains this one."""
    while target != b"/":
        target = os.path.dirname(target)
        if target in grants:
            return target
    return None


def _split(grant: _Grant, listdir: Listdir) -> Iterator[tuple[bytes, Access]]:
    onway: dict[bytes, set[bytes]] = {}
    """Directories on the way to a hole, and which of their children are so too, or are the hole."""
    for hole in grant.holes:
        path = hole
        while path != grant.source:
            above = os.path.dirname(path)
            known = above in onway
            onway.setdefault(above, set()).add(path)
            if known:
                break
            path = above
    pending = [grant.source]
    while pending:
        path = pending.pop()
        if path in onway:
            # Not all of them may be listed: /home is often mode 0711.
            pending += onway[path] - grant.holes
            pending += (child for child, _ in _children(path, listdir) if child not in onway[path])
        else:
            yield path, grant.access
    if grant.access == landlock.READ and grant.source in (b"/", b"/dev") and b"/dev" not in grant.holes:
        yield from ((path, landlock.DEVICE) for path in _devices(b"/dev", grant.holes, listdir))


def beneath(path: bytes, access: Access, holes: Iterable[bytes]) -> Iterator[Rule]:
    """The rules that allow this on a real path and beneath it, but not at and beneath the holes."""
    within = {hole for hole in holes if hole.startswith(path.rstrip(b"/") + b"/")}
    for found, allowed in _split(_Grant(path, access, within), listdir):
        yield Rule(found, allowed)


def _devices(directory: bytes, holes: set[bytes], listdir: Listdir) -> Iterator[bytes]:
    for path, kind in _children(directory, listdir):
        if path in holes:
            continue
        if path == b"/dev/pts" or kind not in (stat.S_IFDIR, stat.S_IFREG):
            yield path
        elif kind == stat.S_IFDIR:
            yield from _devices(path, holes, listdir)


def _absent(path: bytes, listdir: Listdir) -> bool:
    try:
        return all(name != os.path.basename(path) for name, _ in listdir(os.path.dirname(path)))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except PermissionError:
        return False


def _children(path: bytes, listdir: Listdir) -> Iterator[tuple[bytes, int]]:
    try:
        listed = list(listdir(path))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    prefix = path.rstrip(b"/") + b"/"
    for name, kind in listed:
        if kind != stat.S_IFLNK:
            yield prefix + name, kind


def listdir(path: bytes) -> Iterator[Child]:
    """The children of a directory of the host."""
    with os.scandir(path) as listed:
        for entry in listed:
            yield Child(entry.name, _type(entry))


def _type(entry: "os.DirEntry[bytes]") -> int:
    """By what the listing says, as far as it does; a name that has gone is of no type."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def kernel_abi() -> int:
    """The kernel's Landlock ABI; 0 where there is none."""
    try:
        return _syscall(landlock.CREATE_RULESET, 0, 0, landlock.CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (ENOSYS, EOPNOTSUPP):
            return 0
        raise


def ruleset(
    entries: Iterable[Entry],
    *,
    anchors: Iterable[bytes] = (),
    uppers: Mapping[bytes, Sequence[bytes]] = MappingProxyType({}),
    reserved: Iterable[bytes] = (),
) -> int:
    """A descriptor for landlock_restrict_self(2), or FloorUnavailable."""
    abi = kernel_abi()
    if abi < REQUIRED_ABI:
        has = f"has Landlock ABI {abi}" if abi else "has no Landlock (not built in, or not in the lsm= list)"
        raise FloorUnavailable(
            f"an enforcing view needs Landlock ABI {REQUIRED_ABI} (Linux 6.12); this kernel {has}"
        )
    scoped = landlock.SCOPE_SIGNAL | landlock.SCOPE_ABSTRACT_UNIX_SOCKET
    attributes = landlock.RULESET_ATTR.pack(landlock.ALL, 0, scoped)
    descriptor = _syscall(landlock.CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for rule in rules(
            entries, listdir, resolve=os.path.realpath, anchors=anchors, uppers=uppers, reserved=reserved
        ):
            _allow(descriptor, rule)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _allow(ruleset: int, rule: Rule) -> None:
    result = lib.vu_floor_allow(ruleset, rule.path, rule.access, _FILE)
    if result < 0:
        raise OSError(-result, os.strerror(-result), rule.path)


def weaker_ruleset(allowed: Iterable[Rule], objects: Iterable[tuple[int, Access]]) -> int:
    """Rules as far as this kernel has words for them, in a descriptor for landlock_restrict_self(2); -1 where
    it has no Landlock. `objects`: the same by descriptors.
    """
    if not (abi := kernel_abi()):
        return -1
    known = landlock.known(abi)
    attributes = landlock.RULESET_ATTR.pack(known, 0, landlock.scopes(abi))
    descriptor = _syscall(landlock.CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for rule in allowed:
            _allow(descriptor, rule._replace(access=rule.access & known))
        for fd, access in objects:
            beneath = access if stat.S_ISDIR(os.stat(fd).st_mode) else access & landlock.FILE
            rule_of_object = landlock.PATH_BENEATH_ATTR.pack(beneath & known, fd)
            try:
                _syscall(landlock.ADD_RULE, descriptor, landlock.RULE_PATH_BENEATH, rule_of_object, 0)
            except OSError as error:
                if error.errno != EBADFD:  # of a file system that no path leads to; such need no rule
                    raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@functools.cache
def _libc() -> "Callable[..., int]":
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call


def _syscall(number: int, *args: int | bytes) -> int:
    """A system call that no library of ours has; a handful are made before a session starts."""
    import ctypes

    result = _libc()(number, *(arg if isinstance(arg, bytes) else ctypes.c_long(arg) for arg in args))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
