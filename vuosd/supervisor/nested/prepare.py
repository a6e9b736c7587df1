"""A profile becomes the entries of a nested view. Its sources, and the profile itself, are what the caller's
view shows by their paths, so it shows nothing that the caller has not, and what is read-only stays so.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from vuosd.supervisor.eyes import Caller
from vuosd.supervisor.mounting import sharing
from vuosd.supervisor.mounting.mount import UNREAL
from vuosd.supervisor.parents import with_parents
from vuosd.supervisor.prepare import Placer
from vuosd.supervisor.prepared import Prepared, Refused
from vuosd.supervisor.request import Request, command, pairs
from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.values import Below, Placed
from vuosd.supervisor.view import view_of
from vuosd.views import Entry, Kind, ProfileErrors, View, about, hidden_cwd
from vuosd.views.table import fold, lookup

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.mount import Mount

_LAYERED = (
    "has layers, which a nested view cannot have: start it outside, or leave --cow, --on and --store out"
)


class Shown(NamedTuple):
    """An entry for the engine, what comes with it, and if it lies in one by wire a mount of that server."""

    placed: Placed
    below: Below | None
    wire: "Mount | None" = None


class Nested(NamedTuple):
    """What a nested view is made of.

    entries: outermost first; the descriptors are the receiver's
    late: what is mounted when the namespace is there, outermost first
    cwd: where the command has to go, b"" where it may stay
    command: as Prepared.command
    """

    name: str
    view: View
    entries: list[Shown]
    late: list[Entry]
    cwd: bytes
    command: bytes


def prepare(
    request: Request,
    caller: Caller,
    space: int,
    outer: Prepared,
    scratch: Scratch,
    wires: "Sequence[Mount]" = (),
) -> Nested:
    """Of a request from namespace `space` of a session, which has these mounts by wire; Refused. Blocks: see
    Caller.
    """
    if request.cow or request.on or request.store:
        raise Refused(f"vuosd: this command {_LAYERED}")
    try:
        if caller.realpath(b"/") != b"/":
            raise Refused("vuosd: no view can be nested in what chroot(2) shows: ask from outside of it")
        env = request.variables()
        view = View(name="")
        if request.profile:
            view = view_of(request.profile, env, request.cwd, caller)
            _check(view, outer)
            if not outer.watched:
                _check_unwatched(view)
        placer = _Placer(view, scratch, caller, space, wires)
        return _prepare(request, view, env, placer)
    except ProfileErrors as error:
        raise Refused(str(error)) from None


def _check(view: View, outer: Prepared) -> None:
    """Refused when it wants what a view inside another cannot have."""
    if view.enforce:
        text = (
            "enforce = true cannot be held in a nested view: its fence is that of the view it is started in"
        )
        raise Refused(f"vuosd: view {view.name}: {text}, which was built when that began")
    if view.keep_tree and not outer.keep_tree:
        text = "survive = true cannot be held in a nested view: it ends with the view it is started in"
        raise Refused(f"vuosd: view {view.name}: {text}")
    for entry in view.entries:
        if entry.kind in (Kind.COW, Kind.MERGE):
            kind = entry.kind.name.lower()
            error = about(
                view, entry, "type", f'a nested view has no entry of type "{kind}"', "start it outside"
            )
            raise ProfileErrors([error])
        if entry.kind is Kind.FILESYSTEM and outer.enforce and entry.served and entry.served.type != UNREAL:
            message = "the view outside enforces, and its servers of file systems are outside of its fence"
            hint = "mount it in the nested view: vumount"
            raise ProfileErrors([about(view, entry, "type", message, hint)])


def _check_unwatched(view: View) -> None:
    """Refused where the view outside has no entries, and so a filter that lets pass what lists directories
    and changes open files.
    """
    for entry in view.entries:
        if entry.kind in (Kind.HIDE, Kind.RO) or entry.readonly:
            message = "the view outside has no entries, so its filter lets pass what this has to know"
            hint = 'start that one with a profile that has entries, or [control] allow = ["view", …]'
            raise ProfileErrors([about(view, entry, "type", message, hint)])


def _prepare(request: Request, view: View, env: Mapping[str, str], placer: "_Placer") -> Nested:
    caller, scratch = placer.caller, placer.scratch
    start = view.cwd or request.cwd
    if errors := hidden_cwd(view, start, caller.lexists):
        raise ProfileErrors(errors)
    table = fold(view.entries)[0]
    late = [entry for entry in table.values() if entry.kind is Kind.FILESYSTEM]
    try:
        placed = with_parents(table, placer.place(tuple(table.values())), scratch, caller.lexists)
    except BaseException as error:
        placer.close()
        if isinstance(error, OSError):
            raise Refused(f"vuosd: view {view.name}: {error.strerror}") from None
        raise
    if scratch.path is not None:  # else what is in it had two names
        private = os.path.realpath(scratch.path)
        placed.append(Placed(Kind.HIDE, False, private, source_path=private))
    shown = [Shown(one, placer.below.get(one.target), placer.wires.get(one.target)) for one in placed]
    moves = view.cwd is not None or lookup(table, start) is not None
    rules = view.env
    return Nested(
        name=os.fsdecode(request.name) or view.name,
        view=view,
        entries=sorted(shown, key=lambda one: len(one.placed.target)),
        late=sorted(late, key=lambda entry: len(entry.target)),
        cwd=start if moves else b"",
        command=command(request.arguments, pairs(rules.apply(env).items()))
        if rules.set or rules.unset
        else request.command,
    )


class _Placer(Placer):
    """Opens what entries show with the caller's eyes."""

    def __init__(
        self, view: View, scratch: Scratch, caller: Caller, space: int, mounted: "Sequence[Mount]"
    ) -> None:
        super().__init__(view, scratch, None)
        self.mounted = mounted
        self.caller = caller
        self.space = space
        self.below: dict[bytes, Below] = {}
        self.wires: dict[bytes, Mount] = {}
        self.opened: list[int] = []

    def close(self) -> None:
        for fd in self.opened:
            os.close(fd)

    def _place(self, entry: Entry, fd: int | None) -> Placed:
        if entry.kind is Kind.HIDE:
            return Placed(Kind.HIDE, False, entry.target, source_path=self._withheld(entry.target))
        if fd is not None or entry.source is None or entry.kind is Kind.FILESYSTEM:
            placed = super()._place(entry, fd)
            self.opened.append(placed.source)
            return placed
        try:
            found = self.caller.look(entry.source)
        except OSError as error:
            raise self._error(entry, error) from None
        real = os.readlink(b"/proc/self/fd/%d" % found.fd)
        wire = sharing.origin(self.mounted, real) if found.special else None
        if (found.special and wire is None) or not found.view:
            os.close(found.fd)
            text = "lies in an entry of several trees (cow, merge) of the view outside"
            text = text if found.view else "has no path in the view outside"
            raise ProfileErrors([about(self.view, entry, "source", f"what is to be shown {text}")])
        self.opened.append(found.fd)
        self.below[entry.target] = Below(found.view, self.space, True)
        readonly = entry.readonly or found.readonly
        placed = super()._place(replace(entry, kind=Kind.BIND, readonly=readonly), found.fd)
        if wire is not None:
            self.wires[entry.target] = wire
        return placed._replace(served=found.served)

    def _withheld(self, path: bytes) -> bytes:
        """The path that the kernel knows it by; b"" for what is not there."""
        try:
            found = self.caller.look(path, follow=False)
        except OSError:
            return b""
        try:
            return os.readlink(b"/proc/self/fd/%d" % found.fd)
        finally:
            os.close(found.fd)
