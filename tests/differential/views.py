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
    depth: int = 0
    """How often the tree is looked at through itself; natively its path has the same text."""

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


def _cow(scratch: Path, work: Path, store: Path) -> str:
    return f'[[mount]]\ntype = "cow"\ntarget = "{work}"\nephemeral = true\n'


def _unreal(scratch: Path, work: Path, store: Path) -> str:
    return f'[[mount]]\ntype = "unreal"\ntarget = "{scratch}/u"\n'


PASS_THROUGH = Variant("pass-through", lambda *_: None)
UNRELATED = Variant("unrelated", _unrelated)
BIND = Variant("bind", _bind, bound=True)
BIND_ABSENT = Variant("bind-absent", _bind_absent, bound=True, work_exists=False)
ENFORCE = Variant("enforce", _enforce)
UNREAL = Variant("unreal", _unreal, depth=2)
COW = Variant("cow", _cow)
ALL = (PASS_THROUGH, UNRELATED, BIND, BIND_ABSENT, ENFORCE, UNREAL, COW)


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
        name = str(path.relative_to(self.box.scratch))
        self.box.give(self.box.directory(name))
        self.box.directory(f"{name}/tree")

    def _deep(self, path: Path, depth: int) -> Path:
        """`path` as a variant names it."""
        return Path(f"{self.box.scratch}/u" * depth + str(path))

    def native(self, argv: list[Argument], variant: Variant = PASS_THROUGH, **more: object) -> Result:
        work = self._deep(self.work, variant.depth)
        self._fresh(work)
        self.box.give(self.box.scratch / "u") if variant.depth else None
        return self.box.native(argv, cwd=work / "tree", **more)  # type: ignore[arg-type]

    def inside(self, variant: Variant, argv: list[Argument], **more: object) -> Result:
        self._fresh(self.work)
        self._fresh(self.store)
        exists = variant.work_exists or self.box.pretend
        if not exists:
            self.count += 1
            self.work.rename(self.box.scratch / f"old{self.count}")
        profile = variant.profile(self.box.scratch, self.work, self.store)
        cwd = self.work / "tree" if exists else self.box.scratch
        if variant.depth and not self.box.pretend:
            argv = ["sh", "-c", 'cd "$0" && exec "$@"', self._deep(cwd, variant.depth), *argv]
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
