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

    tables: their entries, outermost first; hidden: host paths that are hidden; covered: such in whose place
    something else is seen; locked: such as are read-only
    """

    tables: Sequence[Mapping[bytes, Entry]] = ()
    hidden: frozenset[bytes] = frozenset()
    covered: frozenset[bytes] = frozenset()
    locked: frozenset[bytes] = frozenset()

    def allows(self, path: bytes) -> Access:
        """What a process of the view may do with what the host has at a real path."""
        if any(_at_or_below(path, hole) for hole in self.hidden):
            return Access(0)
        access = landlock.WRITE | Access.IOCTL_DEV
        for table in self.tables:
            entry = lookup(table, path)
            if host_path(entry, path) != path:
                return Access(0)
            if entry is not None and (entry.readonly or entry.kind in (Kind.COW, Kind.MERGE)):
                access &= landlock.READ
        return access

    def within(self, path: bytes, *, writing: bool) -> bytes | None:
        """Something in a directory that is not as the host has it; None: all is."""
        holes = self.hidden | self.covered | (self.locked if writing else frozenset())
        return min((hole for hole in holes if _below(hole, path)), default=None)


def of_views(views: Sequence[View]) -> Shown:
    """Those that a process is in, outermost first."""
    tables: list[Mapping[bytes, Entry]] = []
    hidden: set[bytes] = set()
    covered: set[bytes] = set()
    locked: set[bytes] = set()
    for number, view in enumerate(views):
        tables.append(fold(view.entries)[0])
        for target, entry in tables[-1].items():
            real = os.path.realpath(target)
            if entry.kind is Kind.HIDE:
                hidden.add(os.path.realpath(entry.source or target))
            elif number or target not in entry.sources:  # of a view in a view, all that it has
                covered.add(real)
            elif entry.readonly or entry.kind is Kind.COW:
                locked.add(real)
    return Shown(tables, frozenset(hidden), frozenset(covered - {b"/"}), frozenset(locked))


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
    try:
        rules = [*reach.rules()]
        ruleset = floor.weaker_ruleset(rules, [*reach.objects()])
    finally:
        for fd, _ in reach.named:
            os.close(fd)
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
        self.named: list[tuple[int, Access]] = []
        """What a process of the view has named: what was judged, and not what the name leads to by now."""

    def rules(self) -> Iterator[Rule]:
        """Leaves what it has opened in `named`."""
        for path in (*_PROGRAMS, *self._interpreter()):
            yield from self._of_system(path, needed=True)
        yield from self._of_system(self.wants.argv[0], needed=not self.wants.inside)
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
        searched = [path for name in _SEARCHED for path in self.wants.env.get(name, "").split(":")]
        for path in (*self.needs.reads, *searched, *self._options()):
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
        yield from self.named
        for fd in self.wants.fds.values():
            mode = os.stat(fd).st_mode
            access = landlock.WRITE if self.writes else landlock.READ
            if stat.S_ISBLK(mode):
                yield fd, access | Access.IOCTL_DEV  # how large is it?
            elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
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
        table = self.shown.tables[0] if self.shown.tables else {}
        top = table.get(b"/")
        if top is None or b"/" in top.sources:
            yield from floor.beneath(b"/", landlock.READ, real)
        for entry in table.values():  # the sources of a view in a view are paths of this one
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
        if not name.startswith("/"):
            return
        if not self.wants.inside:
            yield Rule(os.path.realpath(os.fsencode(name)), access)
            return
        try:
            fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        access &= self.shown.allows(path)
        if not access or self.shown.within(path, writing=Access.WRITE_FILE in access) is not None:
            os.close(fd)
        else:
            self.named.append((fd, access))

    def _source(self) -> Iterator[Rule]:
        """By their names, where those have not been given by descriptors. MountError."""
        access = landlock.WRITE if self.writes else landlock.READ
        for name, given in self.sources():
            path = os.path.realpath(os.fsencode(name))
            directory = os.path.isdir(path)
            found = given or name == self.wants.source
            if self.wants.inside and directory and found:
                self._check_whole(path)
            if not given and not directory and os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode):
                access |= Access.IOCTL_DEV
            if not given and (found or not self.wants.inside):
                yield Rule(path, access)  # the view's eyes have found it, or the user names it
            elif not given:
                yield from self._named(name, access)
            if self.needs.beside and self.writes and not directory:
                above = os.path.dirname(path)
                if self.wants.inside and (hole := self.shown.within(above, writing=True)) is not None:
                    what = f"it is stored anew in a directory in which the view has {os.fsdecode(hole)}"
                    raise MountError(EOPNOTSUPP, f"{what}: mount it with -o ro")
                yield from self._named(os.fsdecode(above), landlock.WRITE)

    def _check_whole(self, path: bytes) -> None:
        """MountError where the view shows not all that is in a directory: such a one cannot be opened by
        who has not all of it.
        """
        if (hole := self.shown.within(path, writing=self.writes)) is not None:
            what = f"only processes of the view see this directory with {os.fsdecode(hole)} as it is there"
            raise MountError(EOPNOTSUPP, f"{what}: vumount without transport= starts the server as one")

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
