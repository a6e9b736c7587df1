"""An installed vuosd that a given user can reach.

The repository and .venv may lie where an unprivileged user cannot enter, and the interpreter under root's
home. Then a copy is made in
a directory of /tmp: from an interpreter of the same version that the user can reach, or else from a copy of
ours.
"""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from harness.identities import Identity

REPOSITORY = Path(__file__).parent.parent.parent
SCRIPTS = ("vuosd", "vuctl")
PROGRAMS = ("vuos-run", "vumount", "vuumount", "vu_insmod", "vu_rmmod", "vu_lsmod")


@dataclass(frozen=True)
class Installation:
    bin: Path

    @property
    def vuos_run(self) -> Path:
        return self.bin / "vuos-run"

    @property
    def python(self) -> Path:
        return self.bin / "python3"


def ours() -> Installation:
    """Where this interpreter's scripts are: .venv/bin."""
    return Installation(Path(sysconfig.get_path("scripts")))


def open_to_others(path: Path) -> bool:
    """Whether anybody may follow `path` and execute (or enter) what is there. By modes: ACLs are not expected
    on an installation."""
    path = Path(os.path.realpath(path))
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents])


def interpreter() -> Path | None:
    """A python of our version whose installation everybody can reach, or None."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"]
    for candidate in map(Path, candidates):
        if not candidate.exists() or not open_to_others(candidate):
            continue
        probe = subprocess.run(
            [candidate, "-c", "import sys, venv; print(sys.base_prefix, '%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        prefix, _, found = probe.stdout.strip().rpartition(" ")
        if probe.returncode == 0 and found == version and open_to_others(Path(prefix)):
            return candidate
    return None


def for_identity(identity: Identity, directory: Path) -> Installation:
    """An installation that `identity` can use; `directory` (which must be open to it) is where a copy
    goes."""
    here = ours()
    reachable = all(
        open_to_others(path)
        for path in (here.bin / "python3", here.bin, Path(sys.base_prefix), Path(sys.prefix))
    )
    if identity.is_us or reachable:
        return here
    target = directory / "installation"
    if not target.exists():
        _copy(here, target)
    return Installation(target / "bin")


def _copy(here: Installation, target: Path) -> None:
    python = interpreter()
    if python is None:
        raise RuntimeError(
            f"no Python {sys.version_info.major}.{sys.version_info.minor} that other users can reach: "
            "install the system's python3, or move this one out of a private home directory"
        )
    subprocess.run([python, "-m", "venv", "--without-pip", target], check=True, capture_output=True)
    purelib = target / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    wanted = (
        "vuosd",
        "cffi",
        "_cffi_backend",
        "trio",
        "msgspec",
        "pyseccomp",
        "pyfuse3",
        "attr",
        "attrs",
        "idna",
        "outcome",
        "sniffio",
        "sortedcontainers",
    )
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        name = path.name.partition(".")[0].partition("-")[0]
        if name in wanted:
            if path.is_dir():
                shutil.copytree(
                    path,
                    purelib / path.name,
                    ignore=shutil.ignore_patterns("__pycache__", "tests", "_tests"),
                    dirs_exist_ok=True,
                )
            else:
                shutil.copy2(path, purelib / path.name)
    for script in SCRIPTS:
        if (here.bin / script).exists():
            lines = (here.bin / script).read_text().splitlines(keepends=True)
            (target / "bin" / script).write_text(f"#!{target}/bin/python3\n" + "".join(lines[1:]))
            (target / "bin" / script).chmod(0o755)
    for program in PROGRAMS:
        if (here.bin / program).exists():
            shutil.copy2(here.bin / program, target / "bin")
    # Once, as root: the user may not write there, and without the byte code each start would compile it anew.
    subprocess.run(
        [target / "bin/python3", "-m", "compileall", "-q", purelib], check=False, capture_output=True
    )


def with_wrapped_daemon(
    base: Installation, directory: Path, confine: Path, arguments: tuple[str, ...]
) -> Installation:
    """The same installation, whose vuosd is started through confine: the launcher looks for it beside
    itself."""
    bin = directory / "wrapped"
    if not bin.exists():
        bin.mkdir()
        shutil.copy2(base.vuos_run, bin)
        commands = ("vumount", "vuumount", "vu_insmod", "vu_rmmod", "vu_lsmod")
        for name in ("vuctl", "python3", *commands):
            (bin / name).symlink_to(base.bin / name)
        (bin / "vuosd").write_text(
            f'#!/bin/sh\nexec {confine} {" ".join(arguments)} -- {base.bin}/vuosd "$@"\n'
        )
        (bin / "vuosd").chmod(0o755)
    return Installation(bin)
