"""Other programs that show layers: the kernel's overlayfs and fuse-overlayfs, where this machine has them.

Each mounts in a mount namespace of its own (unshare(1) -m), which is gone with the command.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SCRIPT = """\
{mount} || exit 99
shift 4
"$@"
status=$?
cd /
umount "{where}" || exit 98
exit $status
"""


@dataclass(frozen=True)
class Overlay:
    """mount: shell, with $1 the lower tree, $2 the upper, $3 the work directory, $4 where to mount."""

    name: str
    mount: str

    def __str__(self) -> str:
        return self.name

    def around(self, lower: Path, upper: Path, work: Path, where: Path) -> list[str | Path]:
        """What to put in front of a command, for root: it sees the layer at `where`."""
        script = _SCRIPT.format(mount=self.mount, where=where)
        return ["unshare", "-m", "/bin/sh", "-c", script, "sh", lower, upper, work, where]

    @cache  # noqa: B019 there are two of them
    def works(self) -> bool:
        """Whether this machine, and who runs the tests, can mount it and write there."""
        if os.geteuid() != 0:
            return False
        with tempfile.TemporaryDirectory(dir="/tmp") as top:
            paths = [Path(top) / name for name in ("lower", "upper", "work", "where")]
            for path in paths:
                path.mkdir()
            words = [*self.around(*paths), "touch", paths[3] / "new"]
            done = subprocess.run(words, capture_output=True, check=False)
            return done.returncode == 0 and (paths[1] / "new").exists()


_KERNEL = 'mount -t overlay -o "{options},lowerdir=$1,upperdir=$2,workdir=$3" none "$4"'
KERNEL = Overlay("kernel", _KERNEL.format(options="userxattr"))
REFERRING = Overlay("kernel-referring", _KERNEL.format(options="redirect_dir=on,metacopy=on,index=off"))
FUSE = Overlay("fuse-overlayfs", 'fuse-overlayfs -o "allow_other,lowerdir=$1,upperdir=$2,workdir=$3" "$4"')


@cache
def here() -> tuple[Overlay, ...]:
    """Those that work, of such as show a layer of ours."""
    return tuple(overlay for overlay in (KERNEL, FUSE) if overlay.works())


@cache
def referring() -> tuple[Overlay, ...]:
    """Those that work, of such as write marks that we read and do not write, and do not know ours."""
    return tuple(overlay for overlay in (REFERRING,) if overlay.works())
