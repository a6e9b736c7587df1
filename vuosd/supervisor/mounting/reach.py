"""What a server outside of the view may reach: of its type's needs (vuosd.api.Needs) and the view a Landlock
ruleset is made, which bounds.py puts on its process.

    the type: Needs ─┐
    the source ──────┼──▶ rules ──▶ ruleset ──helper──▶ the server's process
    the view: Shown ─┘

It reads the system's programs, libraries and settings, less what the view hides of them; its source, which
it changes unless that is mounted read-only; what its type says. Programs and classes of which nothing is
known read all that the view shows, and no more. Sources and options count for what they are to who names
them: to a process of the view what that shows, to the user, by a profile or from outside, what is there.
"""

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from errno import EOPNOTSUPP
from typing import NamedTuple

from vuosd.abi import landlock
from vuosd.abi.landlock import Access
from vuosd.api import Needs
from vuosd.api.types import HOST
from vuosd.supervisor import floor
from vuosd.supervisor.floor import Rule
from vuosd.supervisor.mounting import options
from vuosd.supervisor.mounting.bounds import Bounds
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.runtime import RuntimeUnavailable, control_path
from vuosd.supervisor.scratch import parents
from vuosd.views import Entry, Kind, View
from vuosd.views.table import fold, host_path, lookup

_PROGRAMS = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
)  # fmt: skip
_SETTINGS = ("/proc", "/sys/devices/system/cpu", "/etc")
_OF_ROOT = tuple(
    f"/etc/{name}" for name in (
        "alternatives", "ca-certificates", "crypto-policies", "fuse.conf", "gai.conf", "group", "host.conf",
        "hosts", "krb5.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "locale.alias",
        "localtime", "magic", "mime.types", "mke2fs.conf", "nsswitch.conf", "os-release", "passwd",
        "pki/ca-trust", "pki/tls/certs", "pki/tls/openssl.cnf", "protocols", "resolv.conf", "services",
        "ssh/ssh_config", "ssh/ssh_config.d", "ssh/ssh_known_hosts", "ssl/cert.pem", "ssl/certs",
        "ssl/openssl.cnf", "timezone",
    )
)  # fmt: skip
"""Of /etc, what root's servers read: there is more in it that nobody else may."""
_RESOLVER = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf")
_DEVICES = ("null", "zero", "full", "random", "urandom", "fuse")
_SEARCHED = ("LD_LIBRARY_PATH", "PYTHONPATH")


class Shown(NamedTuple):
    """What views show of the host, as far as servers are concerned.

    table: the entries; hidden: host paths that are hidden; covered: such in whose place something else is
    seen; locked: such as are read-only
    """

    table: Mapping[bytes, Entry] = {}
    hidden: frozenset[bytes] = frozenset()
    covered: frozenset[bytes] = frozenset()
    locked: frozenset[bytes] = frozenset()

    def allows(self, path: bytes) -> Access:
        """What a process of the view may do with what the host has at a real path."""
        entry = lookup(self.table, path)
        if host_path(entry, path) != path or any(_at_or_below(path, hole) for hole in self.hidden):
            return Access(0)
        reads = entry is not None and (entry.readonly or entry.kind in (Kind.COW, Kind.MERGE))
        return landlock.READ if reads else landlock.WRITE | Access.IOCTL_DEV


def of_views(views: Sequence[View]) -> Shown:
    """Those that a process is in, outermost first."""
    table: dict[bytes, Entry] = {}
    hidden: set[bytes] = set()
    covered: set[bytes] = set()
    locked: set[bytes] = set()
    for number, view in enumerate(views):
        for target, entry in fold(view.entries)[0].items():
            table[target] = entry
            real = os.path.realpath(target)
            if entry.kind is Kind.HIDE:
                hidden.add(os.path.realpath(entry.source or target))
            elif number or target not in entry.sources:  # of a view in a view, all that it has
                covered.add(real)
            elif entry.readonly or entry.kind is Kind.COW:
                locked.add(real)
    return Shown(table, frozenset(hidden), frozenset(covered - {b"/"}), frozenset(locked))


class Wants(NamedTuple):
    """Of one server.

    needs: as its type says; argv, env: how it is started
    options: as after -o
    source: a path, or what else it is told; fds: descriptors of ours, by the numbers that it gets them by
    readonly: it does not write to its source; place: the directory that it mounts itself at
    temporary: a directory of its own
    inside: a process of the view has asked for it
    """

    needs: Needs
    argv: Sequence[str]
    env: Mapping[str, str]
    options: str
    source: str
    fds: Mapping[int, int]
    readonly: bool
    place: bytes
    temporary: bytes | None
    inside: bool


def bounds(wants: Wants, shown: Shown) -> Bounds:
    """The ruleset is the receiver's. OSError, MountError."""
    reach = _Reach(wants, shown)
    ruleset = floor.weaker_ruleset([*reach.rules()], [*reach.objects()])
    sources = [path for path, _ in reach.sources()]
    free = any(map(os.path.isdir, sources)) or (wants.needs.sees and not sources)
    return Bounds(ruleset, wants.needs.network, attributes=free, agent=reach.agent())


class _Reach:
    def __init__(self, wants: Wants, shown: Shown) -> None:
        self.wants, self.shown = wants, shown
        self.needs = wants.needs
        self.writes = not wants.readonly and self.needs.changes
        home = wants.env.get("HOME", "")
        self.home = home.rstrip("/") if home.startswith("/") else None

    def rules(self) -> Iterator[Rule]:
        code = [*_PROGRAMS, self.wants.argv[0], *self._interpreter()]
        for variable in _SEARCHED:
            code += self.wants.env.get(variable, "").split(":")
        for path in code:
            yield from self._of_system(path, needed=True)
        for path in (*_SETTINGS, *(_RESOLVER if self.needs.network else ())):
            if path == "/etc" and os.geteuid() == 0:
                for one in _OF_ROOT:
                    yield from self._of_system(one)
            else:
                yield from self._of_system(path)
        for name in _DEVICES:
            yield Rule(os.fsencode(f"/dev/{name}"), landlock.DEVICE)
        if self.needs.sees:
            yield from self._all_shown()
        for path in (*self.needs.reads, *self._options()):
            yield from self._named(path, landlock.READ)
        for path in self.needs.writes:
            yield from self._named(path, landlock.WRITE)
        yield from self._source()
        if self.wants.place:
            yield Rule(self.wants.place, Access.READ_DIR | Access.READ_FILE)
        if self.wants.temporary is not None:
            yield Rule(self.wants.temporary, landlock.WRITE)

    def objects(self) -> Iterator[tuple[int, Access]]:
        """By their descriptors: what it has been given by one need have no path."""
        for fd in self.wants.fds.values():
            mode = os.stat(fd).st_mode
            access = landlock.WRITE if self.writes else landlock.READ
            if stat.S_ISBLK(mode):
                yield fd, access | Access.IOCTL_DEV  # how large is it?
            elif stat.S_ISREG(mode):
                yield fd, access

    def agent(self) -> str:
        """The path of the one socket that it may connect to: of who keeps the user's keys."""
        path = self.wants.env.get("SSH_AUTH_SOCK", "") if self.needs.agent else ""
        if not path.startswith("/"):
            return ""
        real = os.path.realpath(os.fsencode(path))
        if self.wants.inside and Access.WRITE_FILE not in self.shown.allows(real):
            return ""
        return path

    def _interpreter(self) -> Iterator[str]:
        if self.wants.argv[0] == sys.executable:
            import vuosd

            yield from (sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(vuosd.__file__)))
            yield from (path for path in sys.path if path)
            yield from (word.partition(":")[0] for word in self.wants.argv[len(HOST) :][:1])  # its code

    def _of_system(self, name: str, *, needed: bool = False) -> Iterator[Rule]:
        """Less what the view hides of it, and shows something else for; all if nothing can run without."""
        if not name.startswith("/"):
            return
        path = os.path.realpath(os.fsencode(name))
        if not needed and any(_at_or_below(path, hole) for hole in self.shown.hidden):
            return
        if os.path.lexists(path):
            covered = frozenset() if needed else self.shown.covered
            yield from floor.beneath(path, landlock.READ, self.shown.hidden | covered)

    def _all_shown(self) -> Iterator[Rule]:
        holes = {*self.shown.hidden, *self.shown.covered, b"/dev", *filter(os.path.lexists, parents())}
        try:
            holes.add(os.fsencode(control_path(os.environ).parent))
        except RuntimeUnavailable:
            pass
        real = {os.path.realpath(hole) for hole in holes}
        top = self.shown.table.get(b"/")
        if top is None or b"/" in top.sources:
            yield from floor.beneath(b"/", landlock.READ, real)
        for entry in self.shown.table.values():
            for source in entry.sources:
                path = os.path.realpath(source)
                if path != b"/" and not any(_at_or_below(path, hole) for hole in self.shown.hidden):
                    yield from floor.beneath(path, landlock.READ, self.shown.hidden)

    def _options(self) -> Iterator[str]:
        """Files that they name: a key, a program, a table of users."""
        for word in options.split(self.wants.options):
            for part in word.rpartition("=")[2].split():
                if part.startswith("/") and os.path.isfile(part):
                    yield part

    def _named(self, name: str, access: Access) -> Iterator[Rule]:
        """What the type names, or an option of the mount."""
        if name.startswith("~/"):
            if self.home is None:
                return
            name = self.home + name[1:]
        path = os.path.realpath(os.fsencode(name))
        if not self.wants.inside:
            yield Rule(path, access)
            return
        shown = self.shown
        yield from floor.beneath(
            path, access & shown.allows(path), shown.hidden | shown.covered | shown.locked
        )

    def _as_asked(self, path: bytes, access: Access, *, found: bool = False) -> Iterator[Rule]:
        """A source; `found`: by the view's eyes, and what these may not change is mounted read-only.
        MountError.
        """
        if not self.wants.inside:
            yield Rule(path, access)
        elif allowed := access if found else access & self.shown.allows(path):
            yield from self._whole(path, allowed)

    def _whole(self, path: bytes, access: Access) -> Iterator[Rule]:
        """As the view shows it. MountError where that is not all that is there: a directory in which
        something is withheld cannot be opened.
        """
        withheld = [hole for hole in self.shown.hidden | self.shown.covered if _below(hole, path)]
        if withheld:
            what = f"only processes of the view see this directory without {os.fsdecode(min(withheld))}"
            raise MountError(EOPNOTSUPP, f"{what}: vumount without transport= starts the server as one")
        yield Rule(path, access & landlock.READ)
        yield from floor.beneath(path, access, self.shown.locked)

    def _source(self) -> Iterator[Rule]:
        access = landlock.WRITE if self.writes else landlock.READ
        for name, given in self.sources():
            path = os.path.realpath(os.fsencode(name))
            if not given:
                device = stat.S_ISBLK(os.stat(path).st_mode) if os.path.exists(path) else False
                found = name == self.wants.source
                yield from self._as_asked(path, access | Access.IOCTL_DEV if device else access, found=found)
            elif os.path.isdir(path):  # what the view's eyes have found
                yield from self._whole(path, access)
            if self.needs.beside and self.writes and not os.path.isdir(path):
                yield from self._as_asked(os.path.dirname(path), access)

    def sources(self) -> Iterator[tuple[str, bool]]:
        """Their paths, and whether each is given by a descriptor. Some programs take several:
        "/a=RW:/b=RO".
        """
        source = self.wants.source
        for at, fd in self.wants.fds.items():
            if source == f"/proc/self/fd/{at}":
                yield f"/proc/self/fd/{fd}", True
                return
        parts = self.needs.sources or (source,)
        if self.needs.sees and not os.path.lexists(source):
            parts = (*parts, *(part.partition("=")[0] for part in source.replace(",", ":").split(":")))
        yield from ((part, False) for part in parts if part.startswith("/"))


def _at_or_below(path: bytes, place: bytes) -> bool:
    return path == place or _below(path, place)


def _below(path: bytes, place: bytes) -> bool:
    return path.startswith(place.rstrip(b"/") + b"/")
