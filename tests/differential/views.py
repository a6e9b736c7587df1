"""The views in which a probe must print what it prints natively: the same tree is there, by one way or
another."""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.box import Argument, Box, Result


@dataclass(frozen=True)
class Variant:
    """`profile(box, work, store)` is the text of a profile, or None; the tree is made in `store` when
    `bound`, else in `work`."""

    name: str
    profile: Callable[[Path, Path, Path], str | None]
    bound: bool = False
    work_exists: bool = True

    def __str__(self) -> str:
        return self.name


def _unrelated(scratch: Path, work: Path, store: Path) -> str:
    return f'[[mount]]\ntype = "hide"\ntarget = "{scratch}/unrelated"\n'


def _enforce(scratch: Path, work: Path, store: Path) -> str:
    return "[view]\nenforce = true\n" + _unrelated(scratch, work, store)


def _bind(scratch: Path, work: Path, store: Path) -> str:
    return f'[[mount]]\ntype = "bind"\nsource = "{store}"\ntarget = "{work}"\n'


def _bind_absent(scratch: Path, work: Path, store: Path) -> str:
    return f'[view]\ncwd = "{work}/tree"\n' + _bind(scratch, work, store)


PASS_THROUGH = Variant("pass-through", lambda *_: None)
UNRELATED = Variant("unrelated", _unrelated)
BIND = Variant("bind", _bind, bound=True)
BIND_ABSENT = Variant("bind-absent", _bind_absent, bound=True, work_exists=False)
ENFORCE = Variant("enforce", _enforce)
ALL = (PASS_THROUGH, UNRELATED, BIND, BIND_ABSENT, ENFORCE)


class Bench:
    """Prepares the same place again and again, and runs there."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.work, self.store = (
            box.scratch / "work",
            box.scratch / "kept",
        )  # names of one length: sizes of links to them
        self.count = 0
        box.directory("unrelated")

    def _fresh(self, path: Path) -> None:
        """What was there goes aside: removing trees that a test made unreadable is the box's business, at the
        end."""
        self.count += 1
        if path.exists():
            path.rename(self.box.scratch / f"old{self.count}")
        self.box.give(self.box.directory(path.name))
        self.box.directory(f"{path.name}/tree")

    def native(self, argv: list[Argument], **more: object) -> Result:
        self._fresh(self.work)
        return self.box.native(argv, cwd=self.work / "tree", **more)  # type: ignore[arg-type]

    def inside(self, variant: Variant, argv: list[Argument], **more: object) -> Result:
        self._fresh(self.work)
        self._fresh(self.store)
        exists = variant.work_exists or self.box.pretend
        if not exists:
            self.count += 1
            self.work.rename(self.box.scratch / f"old{self.count}")
        profile = variant.profile(self.box.scratch, self.work, self.store)
        cwd = self.work / "tree" if exists else self.box.scratch
        return self.box.view(argv, profile, cwd=cwd, **more)  # type: ignore[arg-type]


def differences(native: str, inside: str) -> list[str]:
    """The lines that differ, "<" natively and ">" inside. By diff(1): difflib takes minutes for what differs
    much."""
    with (
        tempfile.NamedTemporaryFile("w", errors="surrogateescape") as one,
        tempfile.NamedTemporaryFile("w", errors="surrogateescape") as other,
    ):
        for file, text in ((one, native), (other, inside)):
            file.write(text)
            file.flush()
        done = subprocess.run(
            ["diff", "-a", "--speed-large-files", one.name, other.name], capture_output=True, check=False
        )
    return [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith(("<", ">"))]
