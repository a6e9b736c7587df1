"""File systems mounted in a view, by both transports, beside the same server mounted by root (`fuse`)."""

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.columns import SCRIPTS, Column
from bench.measurements.row import Row, Sample, Take
from bench.places import Place
from bench.run import Daemon, Failed, run

COLUMNS = ("native", "fuse", "kernel", "wire")
_ARCHIVES = ("native", "ratarmount", "kernel", "wire")
_VIEWS = ("kernel", "wire")

_MOUNTS = {
    "native": "true",
    "fuse": 'fuse2fs -o ro "$image" "$mnt" 2>/dev/null',
    "kernel": 'vumount -t ext4 -o ro,transport=kernel "$image" "$mnt"',
    "wire": 'vumount -t ext4 -o ro,transport=wire "$image" "$mnt"',
}
_MOUNTS_ARCHIVE = {
    "native": "true",
    "ratarmount": 'ratarmount "$image" "$mnt" >/dev/null',
    "kernel": 'vumount -t archive -o transport=kernel "$image" "$mnt"',
    "wire": 'vumount -t archive -o transport=wire "$image" "$mnt"',
}
_UNMOUNTS = {"native": "true", "fuse": 'umount "$mnt"', "ratarmount": 'umount "$mnt"'}

# mounts, and runs the words that follow in there
_SCRIPT = """
image=$1 mnt=$2; shift 2
PATH=$PATH:{scripts}
{mount} || exit 125
"$@"; status=$?
{unmount}; exit $status
"""
_TIMED = 'cd "$1" && begin=$(date +%s%N) && {{ {script}; }} && end=$(date +%s%N) && echo $((end - begin))'


def _tree(place: Place, files: int, megabytes: int) -> Path:
    """What the image holds: many small files and a large one."""
    top = place.top / f"image-{files}"
    if not top.exists():
        (top / "a/b/c").mkdir(parents=True)
        (top / "a/b/c/file").write_bytes(b"x" * 4096)
        for i in range(files):
            path = top / f"many/{i // 1000}/{i // 50}"
            if not i % 50:
                path.mkdir(parents=True)
            (path / f"file-{i}").write_bytes(b"content\n" * (i % 100))
        with open("/dev/urandom", "rb") as random, open(top / "large", "wb") as large:
            large.writelines(random.read(1 << 20) for _ in range(megabytes))
    return top


def _image(place: Place, files: int, megabytes: int) -> Path:
    path = place.top / f"image-{files}.ext4"
    if not path.exists():
        if not shutil.which("mke2fs"):
            raise Failed("mke2fs is not found on PATH")
        tree = _tree(place, files, megabytes)
        size = megabytes + files // 100 + 64
        words = ["mke2fs", "-q", "-t", "ext4", "-N", str(files * 2 + 1000), "-d", str(tree), str(path)]
        subprocess.run([*words, f"{size}M"], check=True, capture_output=True)
    return path


def _archive(place: Place, files: int, megabytes: int) -> Path:
    path = place.top / f"image-{files}.tar"
    if not path.exists():
        with tarfile.open(path, "w") as tar:
            tar.add(_tree(place, files, megabytes) / "many", "many")
    return path


def _mounted(
    mounts: Mapping[str, str], source: Path, tree: Path, place: Place, column: Column, words: list[str]
) -> list[str]:
    """The words, where `tree` is to be seen: natively it is there itself."""
    mnt = place.top / "mnt"
    mnt.mkdir(exist_ok=True)
    unmount = _UNMOUNTS.get(column.name, 'vuumount "$mnt"')
    script = _SCRIPT.format(mount=mounts[column.name], unmount=unmount, scripts=SCRIPTS)
    where = str(tree if column.name == "native" else mnt)
    return ["sh", "-c", script, "sh", str(source), str(mnt), *(w.replace("{tree}", where) for w in words)]


def _operations(program: str, budget: int, files: int, megabytes: int) -> Take:
    def take(place: Place, column: Column, daemon: Daemon | None) -> Sample:
        words = [str(place.bin / program), "-m", str(budget), "{tree}"]
        image, tree = _image(place, files, megabytes), _tree(place, files, megabytes)
        command = _mounted(_MOUNTS, image, tree, place, column, words)
        best, middle, _ = run(place, column, command, daemon=daemon).output.split()
        return Sample(float(best) / 1e9, float(middle) / 1e9)

    return take


def _whole(script: str, files: int, megabytes: int, *, archive: bool = False) -> Take:
    """A script of sh in the mount; mounting does not count."""

    def take(place: Place, column: Column, daemon: Daemon | None) -> Sample:
        tree = _tree(place, files, megabytes)
        source = _archive(place, files, megabytes) if archive else _image(place, files, megabytes)
        words = ["sh", "-c", _TIMED.format(script=script), "sh", "{tree}"]
        mounts = _MOUNTS_ARCHIVE if archive else _MOUNTS
        command = _mounted(mounts, source, tree, place, column, words)
        result = run(place, column, command, daemon=daemon, seconds=300)
        wall = int(result.output.split()[-1]) / 1e9
        return Sample(wall, wall)

    return take


def _mounting(kind: str, times: int, files: int, megabytes: int) -> Take:
    """One mount and its end, of several in one view: the first starts a helper."""
    source = '"$1"' if kind == "ext4" else "none"

    def take(place: Place, column: Column, daemon: Daemon | None) -> Sample:
        mnt = place.top / "mnt"
        mnt.mkdir(exist_ok=True)
        one = f'vumount -t {kind} -o {"ro," if kind == "ext4" else ""}transport={column.name} {source} "$2"'
        loop = f'for i in $(seq {times}); do {one} && vuumount "$2" || exit 1; done'
        timed = f"begin=$(date +%s%N); {loop}; echo $(($(date +%s%N) - begin))"
        script = f'PATH=$PATH:{SCRIPTS}; {one} && vuumount "$2"; {timed}'
        command = ["sh", "-c", script, "sh", str(_image(place, files, megabytes)), str(mnt)]
        output = run(place, column, command, daemon=daemon).output
        wall = int(output.split()[-1]) / 1e9 / times
        return Sample(wall, wall)

    return take


def rows(place: Place, budget: int, *, quick: bool) -> list[Row]:
    files, megabytes = (3000, 64) if quick else (50000, 1024)
    image = partial(_image, place, files, megabytes)

    def row(
        name: str, take: Take, *, only: tuple[str, ...] = COLUMNS, target: dict[str, str] | None = None
    ) -> Row:
        return Row(name, take, only=only, target=target or {}, runs=0.5, prepare=image)

    sizes = (files, megabytes)
    return [
        row("mounted: stat", _operations("stat", budget, *sizes)),
        row("mounted: open+close", _operations("open_close", budget, *sizes)),
        row(
            f"mounted: read {megabytes} MiB",
            _whole("cat large > /dev/null", *sizes),
            target={"wire": "1.3 s"},
        ),
        row(f"mounted: find, {files} files", _whole("find . -type f | wc -l > /dev/null", *sizes)),
        row(
            f"mounted: tar of an archive, {files} files",
            _whole("tar -c -f - many | cat > /dev/null", *sizes, archive=True),
            only=_ARCHIVES,
        ),
        row("mount+umount, ext4", _mounting("ext4", 5, *sizes), only=_VIEWS, target={"kernel": "50 ms"}),
        row("mount+umount, Python", _mounting("memory", 5, *sizes), only=_VIEWS, target={"kernel": "50 ms"}),
    ]
