"""The ways to run a command. A column that cannot be had says why, and stays in the table as absent."""

import os
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.places import SHARE, Place

Wrap = Callable[[Sequence[str]], list[str]]

SCRIPTS = Path(sysconfig.get_path("scripts"))
VIEWS = ("pass", "bind", "enforce", "cow", "kernel", "wire")


@dataclass
class Column:
    """One column: how its commands are started, and where they find the tree and /usr/share."""

    name: str
    wrap: Wrap
    tree: Path
    share: Path
    absent: str = ""
    about: str = ""
    special: bool = False
    """Only for rows that name it."""

    @property
    def is_view(self) -> bool:
        return self.name in VIEWS


def _prefix(*words: str) -> Wrap:
    return lambda command: [*words, *command]


def vuos_run() -> str | None:
    """Beside our interpreter first: what is measured is what this tree builds."""
    path = SCRIPTS / "vuos-run"
    return str(path) if path.exists() else shutil.which("vuos-run")


def profiles(place: Place) -> None:
    """The views' profiles, in the place."""
    (place.top / "bind.toml").write_text(
        f'[view]\nname = "bench-bind"\n\n'
        f'[[mount]]\ntype = "bind"\nsource = "{place.tree}"\ntarget = "{place.seen}"\n\n'
        f'[[mount]]\ntype = "bind"\nsource = "{SHARE}"\ntarget = "{place.share}"\n'
    )
    (place.top / "enforce.toml").write_text(
        f'[view]\nname = "bench-enforce"\nenforce = true\n\n'
        f'[[mount]]\ntype = "ro"\ntarget = "/"\n\n[[mount]]\ntype = "bind"\ntarget = "{place.tree}"\n'
    )
    (place.top / "cow.toml").write_text(
        f'[view]\nname = "bench-cow"\n\n'
        f'[[mount]]\ntype = "cow"\ntarget = ["{place.tree}", "{SHARE}"]\nephemeral = true\n'
    )


def _mounted(mount: str, place: Place) -> Wrap:
    """In a mount namespace of its own, with a new layer over the tree (`$top`/upper, work) in each run."""
    script = (
        f'top=$(mktemp -d "{place.top}/overlay-XXXXXX") && mkdir "$top/upper" "$top/work" || exit 125\n'
        f"{mount} || exit 125\n"
        f'cd "$PWD" && "$@"; status=$?; cd / && umount "{place.tree}" && exit $status'
    )
    return _prefix("unshare", "-m", "sh", "-c", script, "sh")


def _mounting(run: str, missing: str, tree: Path) -> list[Column]:
    """For what is mounted: the rows say how."""
    alone = _prefix("unshare", "-m", "--propagation", "private")
    root = "" if os.geteuid() == 0 else "needs root"
    ratarmount = "" if shutil.which("ratarmount") else "not found on PATH"

    def column(name: str, wrap: Wrap, absent: str, about: str) -> Column:
        return Column(name, wrap, tree, SHARE, absent, about, special=True)

    return [
        column("fuse", alone, root, "a FUSE server mounted by root, as without a view"),
        column("kernel", _prefix(run, "--"), missing, "the server mounted in a view by the kernel's FUSE"),
        column("wire", _prefix(run, "--"), missing, "the same without the kernel's FUSE"),
        column("ratarmount", alone, root or ratarmount, "archives, by the kernel's FUSE"),
    ]


def all_columns(place: Place) -> list[Column]:
    tree, seen, share = place.tree, place.seen, place.share

    def found(name: str, tool: str, wrap: Wrap, *, virtual: bool, about: str) -> Column:
        return Column(
            name,
            wrap,
            seen if virtual else tree,
            share if virtual else SHARE,
            "" if shutil.which(tool) else "not found on PATH",
            about,
        )

    run = vuos_run()
    missing = "" if run else "vuos-run is not built"
    run = run or "vuos-run"
    profiles(place)
    layer = f"lowerdir={tree},upperdir=$top/upper,workdir=$top/work"
    binds = {place.tree: place.seen, SHARE: place.share}
    umvu = "vu_insmod vufs; " + "".join(f"vumount -t vufs {a} {b}; " for a, b in binds.items()) + 'exec "$@"'
    return [
        Column("native", list, tree, SHARE),
        Column("pass", _prefix(run, "--"), tree, SHARE, missing, "a view without entries"),
        Column(
            "bind",
            _prefix(run, f"--view={place.top}/bind.toml", "--"),
            seen,
            share,
            missing,
            "the path is virtual: a tree bound at another place",
        ),
        Column(
            "enforce",
            _prefix(run, f"--view={place.top}/enforce.toml", "--"),
            tree,
            SHARE,
            missing,
            "enforce = true, / read-only, the tree writable",
        ),
        Column(
            "cow",
            _prefix(run, f"--view={place.top}/cow.toml", "--"),
            tree,
            SHARE,
            missing,
            "the tree and /usr/share copied on write, to a layer of the run",
        ),
        found(
            "overlayfs",
            "mount",
            _mounted(f'mount -t overlay -o "userxattr,{layer}" none "{tree}"', place),
            virtual=False,
            about="the kernel's, over the tree; needs root",
        ),
        found(
            "fuse-overlayfs",
            "fuse-overlayfs",
            _mounted(f'fuse-overlayfs -o "{layer}" "{tree}" 2>/dev/null', place),
            virtual=False,
            about="the same by FUSE",
        ),
        *_mounting(run, missing, tree),
        found(
            "bwrap",
            "bwrap",
            _prefix(
                "bwrap",
                "--dev-bind",
                "/",
                "/",
                *(w for a, b in binds.items() for w in ("--bind", str(a), str(b))),
            ),
            virtual=True,
            about="kernel mounts, same binds; needs user namespaces or root",
        ),
        found(
            "proot",
            "proot",
            _prefix("proot", *(w for a, b in binds.items() for w in ("-b", f"{a}:{b}"))),
            virtual=True,
            about="ptrace and seccomp, same binds",
        ),
        found(
            "fakeroot", "fakeroot", _prefix("fakeroot", "--"), virtual=False, about="LD_PRELOAD, real paths"
        ),
        found(
            "strace",
            "strace",
            _prefix(
                "strace",
                "-f",
                "--seccomp-bpf",
                "-qq",
                "-e",
                "trace=%file",
                "-e",
                "signal=none",
                "-o",
                "/dev/null",
            ),
            virtual=False,
            about="--seccomp-bpf -f -e trace=%file, real paths",
        ),
        found(
            "umvu", "umvu", _prefix("umvu", "sh", "-c", umvu, "sh"), virtual=True, about="ptrace, vufs binds"
        ),
        found(
            "sandlock",
            "sandlock",
            _prefix("sandlock", "run", "-r", "/", "-w", str(place.top), "--"),
            virtual=False,
            about="Landlock and seccomp notification, real paths",
        ),
    ]
