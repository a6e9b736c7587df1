"""From the changes of a tree to the steps of its commit, and what stands against it.

The order: what goes, from below; new directories, from above; what is put in place; attributes, the
directories' last and from below, as each entry that comes or goes changes their times.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vuosd.layers.attributes import Attributes
from vuosd.layers.beneath import join, parent_of
from vuosd.layers.changes import Change, Comparison, Kind
from vuosd.layers.compare import xattrs
from vuosd.layers.conflicts import Judge
from vuosd.layers.homes import Homes
from vuosd.layers.permitted import Permitted
from vuosd.layers.select import covered, left_out, selected
from vuosd.layers.steps import Action, Source, Step, TreePlan, seen

OURS, THEIRS = "ours", "theirs"


class Problem(NamedTuple):
    """A path of the tree, and what is the matter with it."""

    path: bytes
    reason: str


class Outlook(NamedTuple):
    """What a commit of a tree would do. plans: of each real tree that it stands upon, the topmost last; done:
    the changes that are applied; dropped: those that `theirs` gives up; conflicts, denied and undecided: why
    nothing may be done; notes: what will not be as in the layer."""

    plans: list[TreePlan]
    done: list[Change]
    dropped: list[Change]
    conflicts: list[Problem]
    denied: list[Problem]
    undecided: list[Problem]
    notes: list[Problem]


class Planner:
    """Of one tree. `roots`: the paths that are wanted, None for all; `identity`: for temporary names."""

    def __init__(self, comparison: Comparison, judge: Judge, identity: str, *, branch: bool) -> None:
        self._comparison, self._judge, self._identity = comparison, judge, identity
        self._branch = branch

    def outlook(self, roots: Sequence[bytes] | None, resolution: str | None) -> Outlook:
        """resolution: OURS, THEIRS, or None: conflicts stop the commit. OSError."""
        comparison = self._comparison
        chosen = selected(comparison.changes(), roots)
        homes = Homes(comparison)
        at = {change.path: homes.of(change) for change in chosen}
        now: dict[int, dict[bytes, os.stat_result | None]] = {level: {} for level in homes.levels}
        conflicts: dict[bytes, str] = {}
        for change in chosen:
            for level in at[change.path]:
                there = now[level][change.path] = comparison.stack.levels[level].root.lstat(change.path)
                if (reason := self._judge.conflict(change, there, level)) is not None:
                    conflicts.setdefault(change.path, reason)
        out = left_out(chosen, conflicts) if resolution == THEIRS else set()
        done = [change for change in chosen if change.path not in out]
        undecided = [
            Problem(change.path, reason) for change in done if (reason := homes.undecided(change)) is not None
        ]
        plans: list[TreePlan] = []
        denied: list[Problem] = []
        notes: list[Problem] = []
        for level in reversed(homes.levels):
            own = not self._branch and not comparison.redirected
            steps = _Steps(comparison, level, self._identity, own=own)
            here = [change for change in done if level in at[change.path]]
            plans.append(steps.plan(here, now[level], roots, chosen))
            denied += steps.denied
            notes += steps.notes
        return Outlook(
            plans,
            done,
            [change for change in chosen if change.path in out],
            [] if resolution is not None else [Problem(*conflict) for conflict in conflicts.items()],
            sorted(denied),
            undecided,
            sorted(notes),
        )


class _Steps:
    """Those of one real tree, known by its level. own: files of the layer may be given away.

    denied, notes: as in an Outlook
    """

    def __init__(self, comparison: Comparison, level: int, identity: str, *, own: bool) -> None:
        self._comparison, self._identity, self._own = comparison, identity, own
        self._stack = comparison.stack
        self._root = comparison.stack.levels[level].root
        self._may = Permitted(self._root)
        self._number = 0
        self.denied: list[Problem] = []
        self.notes: list[Problem] = []

    def plan(
        self,
        done: list[Change],
        now: Mapping[bytes, os.stat_result | None],
        roots: Sequence[bytes] | None,
        chosen: Sequence[Change],
    ) -> TreePlan:
        steps = self._steps(done, now, roots)
        return TreePlan(
            self._root.root,
            self._comparison.tree.directory,
            steps,
            sorted(self._may.opened.items()),
            None if roots is None else list(roots),
            [] if roots is None else [change.path for change in chosen],
            self._stack.levels[0].whiteout_files,
            self._comparison.redirected,
            self._comparison.closed,
        )

    def _steps(
        self, done: list[Change], now: Mapping[bytes, os.stat_result | None], roots: Sequence[bytes] | None
    ) -> list[Step]:
        going: list[Step] = []
        made: set[bytes] = set()
        coming: list[Change] = []
        given: list[Step] = []
        directories: dict[bytes, Step] = {}
        for change in done:
            path, new, there = change.path, change.new, now[change.path]
            is_directory = there is not None and stat.S_ISDIR(there.st_mode)
            if there is not None and (new is None or new.is_directory != is_directory):
                going.append(self._removal(path, there))
            if new is None:
                continue
            if new.is_directory:
                if not is_directory:
                    made.add(path)
                    directories[path] = self._giving(change, None)
                elif change.kind is not Kind.TYPE:
                    directories[path] = self._giving(change, there)
            elif change.kind is Kind.METADATA and there is not None and "links" not in change.attributes:
                given.append(self._giving(change, there))
            else:
                coming.append(change)
        gone = {step.path for step in going if step.action is Action.RMDIR}
        making = [Step(Action.MKDIR, path) for path in sorted(made)]
        placing = self._placing(coming, now, made | gone, gone)
        for step in (*making, *placing):
            self._deny(
                step.path, self._anchor(step.path, made | gone), now[step.path] if step.before else None
            )
        self._times(directories, [*going, *making, *placing], made, roots)
        for path, mode in self._may.opened.items():
            if path in gone:
                continue
            old = directories.get(path)
            wanted = (old and old.give) or Attributes()
            if wanted.mode is None:
                wanted = Attributes(mode, wanted.owner, wanted.times, wanted.xattrs)
            directories[path] = Step(Action.GIVE, path, give=wanted)
        last = [directories[path] for path in sorted(directories, reverse=True)]
        return [*reversed(going), *making, *placing, *given, *last]

    def _removal(self, path: bytes, there: os.stat_result) -> Step:
        reason = self._may.replace(parent_of(path), there)
        if reason is not None:
            self.denied.append(Problem(path, reason))
        if stat.S_ISDIR(there.st_mode):
            return Step(Action.RMDIR, path, seen(there))
        return Step(Action.REMOVE, path, seen(there), self._temporary(parent_of(path)))

    def _deny(self, path: bytes, directory: bytes, there: os.stat_result | None) -> None:
        reason = self._may.replace(directory, there)
        if reason is not None:
            self.denied.append(Problem(path, reason))

    def _temporary(self, directory: bytes) -> bytes:
        self._number += 1
        return join(directory, b".vuos-%s-%d" % (self._identity.encode(), self._number))

    def _anchor(self, path: bytes, moving: set[bytes]) -> bytes:
        """The directory that leads to it and is there all the time."""
        directory = parent_of(path)
        while directory in moving:
            directory = parent_of(directory)
        return directory

    def _giving(self, change: Change, there: os.stat_result | None) -> Step:
        wanted = self._attributes(change, there)
        reason = self._may.give(there, wanted)
        if reason is not None:
            self.denied.append(Problem(change.path, reason))
        return Step(Action.GIVE, change.path, seen(there) if there else None, give=wanted)

    def _attributes(self, change: Change, there: os.stat_result | None) -> Attributes:
        """Of a change in place: those that differ; else all."""
        assert change.new is not None
        st = change.new.st
        in_place = there is not None and change.kind is Kind.METADATA and "links" not in change.attributes
        if in_place:
            differing = change.attributes
        else:
            differing = ("mode", "owner", "times", "xattrs")
        return Attributes(
            stat.S_IMODE(st.st_mode) if "mode" in differing else None,
            self._owner(change, there) if "owner" in differing else None,
            (st.st_atime_ns, st.st_mtime_ns) if "times" in differing else None,
            xattrs(self._comparison.proc(change.new.top)) if "xattrs" in differing else None,
        )

    def _owner(self, change: Change, there: os.stat_result | None) -> tuple[int, int]:
        """The layer's where that is a change, else that of what is there."""
        assert change.new is not None
        st = change.new.st
        keeps = there is not None and change.old is not None
        if keeps and there is not None and not self._comparison.owner_changed(st, there):
            st = there
        if not self._may.owner(None, (st.st_uid, st.st_gid)):
            self.notes.append(Problem(change.path, f"will not belong to {st.st_uid}:{st.st_gid}"))
        return st.st_uid, st.st_gid

    def _placing(
        self,
        coming: list[Change],
        now: Mapping[bytes, os.stat_result | None],
        moving: set[bytes],
        gone: set[bytes],
    ) -> list[Step]:
        steps: list[Step] = []
        first: dict[bytes, int] = {}
        places = {change.path for change in coming}
        for change in coming:
            assert change.new is not None
            path, there, st = change.path, now[change.path], change.new.st
            give = self._attributes(change, there)
            for reason in (self._may.make(st.st_mode), self._may.give(None, give)):
                if reason is not None:
                    self.denied.append(Problem(path, reason))
            linked = [other for other in change.links if other in first]
            own = self._own and places.issuperset(change.links) and st.st_nlink == 1 + len(change.links)
            own = own and change.new.data is None and give.owner == (st.st_uid, st.st_gid)
            level, content = change.new.content
            root = self._stack.levels[level].root.root
            source = Source(
                *(root, content, st.st_mode, st.st_size, st.st_rdev),
                own=own and level == 0 and stat.S_ISREG(st.st_mode),
                same_as=first[linked[0]] if linked else None,
            )
            before = seen(there) if there is not None and path not in gone else None
            temporary = self._temporary(self._anchor(path, moving))
            if not linked:
                first[path] = len(steps)
            steps.append(Step(Action.PLACE, path, before, temporary, source, give))
        return steps

    def _times(
        self,
        directories: dict[bytes, Step],
        structural: Sequence[Step],
        made: set[bytes],
        roots: Sequence[bytes] | None,
    ) -> None:
        """Directories whose entries come and go get the times that they have in the layer, unless somebody
        has changed them later."""
        gone = {step.path for step in structural if step.action is Action.RMDIR}
        for directory in {parent_of(step.path) for step in structural} - made - gone:
            if roots is not None and not covered(directory, roots):
                continue
            st = self._stack.levels[0].root.lstat(directory)
            there = self._root.lstat(directory)
            if st is None or there is None or not stat.S_ISDIR(st.st_mode) or not self._may.owns(there):
                continue
            if there.st_mtime_ns > st.st_mtime_ns:
                continue
            old = directories.get(directory)
            wanted = (old and old.give) or Attributes()
            times = (st.st_atime_ns, st.st_mtime_ns)
            give = Attributes(wanted.mode, wanted.owner, times, wanted.xattrs)
            directories[directory] = Step(Action.GIVE, directory, seen(there), give=give)
