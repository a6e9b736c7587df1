"""What is worked on, made anew for each run in one temporary directory.

tree/    what the measurements look at; seen/ is an empty directory on which a view (or bwrap, proot) shows it
share/   the same for /usr/share
bin/     the programs of micro/, compiled
run/     the daemon's runtime directory
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SHARE = Path("/usr/share")
MODULES = 200
FILES = 8000
COMMITS = 40

_PATTERNS = (
    "*.py",
    "asyncio/*.py",
    "concurrent/**/*.py",
    "email/*.py",
    "http/*.py",
    "json/*.py",
    "xml/**/*.py",
)
_WITH_EFFECTS = {"antigravity", "this", "__hello__", "asyncio.__main__"}

_SMALL_C = """#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct stat st;
	for (int i = 1; i < argc; i++)
		if (stat(argv[i], &st) < 0)
			fprintf(stderr, "%s: %s\\n", argv[i], strerror(errno));
		else
			printf("%s: %ld bytes\\n", argv[i], (long)st.st_size);
	return EXIT_SUCCESS;
}
"""


class Place:
    """The directory and the parts of it that are made when a measurement first wants them."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="vuosd-bench-", dir="/tmp"))
        self.top.chmod(0o755)
        self.tree, self.seen, self.share = self.top / "tree", self.top / "seen", self.top / "share"
        self.bin, self.runtime = self.top / "bin", self.top / "run"
        for path in (self.tree, self.seen, self.share, self.bin, self.runtime):
            path.mkdir()
        self.runtime.chmod(0o700)
        self._compile()
        self._small_tree()

    def remove(self) -> None:
        shutil.rmtree(self.top, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """For every command: nobody's own settings count, and only views know of the daemon."""
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "TERM") if key in os.environ}
        return keep | {"HOME": str(self.top), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_OPTIONAL_LOCKS": "0"}

    def _compile(self) -> None:
        sources = sorted((Path(__file__).parent / "micro").glob("*.c"))
        running = [
            subprocess.Popen(["gcc", "-O2", "-pthread", "-o", self.bin / source.stem, source])
            for source in sources
        ]
        if any(process.wait() for process in running):
            raise SystemExit("bench: a program of bench/micro does not compile")

    def _small_tree(self) -> None:
        deep = self.tree / "a/b/c"
        deep.mkdir(parents=True)
        (deep / "file").write_bytes(b"x" * 4096)
        (self.tree / "link").symlink_to("a/b")
        (self.tree / "list").mkdir()
        for i in range(1000):
            (self.tree / f"list/entry-{i:04}").touch()
        (self.tree / "small.c").write_text(_SMALL_C)

    def repository(self) -> None:
        """8000 files in 200 directories, and a history that `git log --stat` has something to do with."""
        top = self.tree / "repository"
        if top.exists():
            return
        files = [top / f"dir-{i % 20:02}/sub-{i % 200:03}/file-{i:04}.c" for i in range(FILES)]
        for i, file in enumerate(files):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"int f{i}(void) {{ return {i}; }}\n" * 10)
        identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]

        def git(*arguments: str) -> None:
            subprocess.run(
                ["git", *identity, *arguments],
                cwd=top,
                check=True,
                capture_output=True,
                env=self.environment(),
            )

        git("init", "-q", "-b", "main")
        git("add", "-A")
        git("commit", "-q", "-m", "all")
        for i in range(COMMITS):
            for file in files[i::160]:
                with file.open("a") as out:
                    out.write(f"/* {i} */\n")
            git("commit", "-q", "-a", "-m", f"commit {i}")
        git("status")

    def modules(self) -> list[str]:
        """A copy of the standard library in tree/stdlib, and the first 200 of its modules that load."""
        top = self.tree / "stdlib"
        if not top.exists():
            source = Path(os.__file__).parent
            ignore = shutil.ignore_patterns(
                "site-packages", "test", "tests", "idlelib", "turtledemo", "__pycache__", "config-*", "*.so"
            )
            shutil.copytree(source, top, ignore=ignore, symlinks=True)
            subprocess.run([self.python, "-m", "compileall", "-q", top], check=False, capture_output=True)
        found = {
            path.relative_to(top).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
            for pattern in _PATTERNS
            for path in top.glob(pattern)
        }
        names = sorted(name for name in found - _WITH_EFFECTS if name.replace(".", "_").isidentifier())
        probe = (
            "import sys, importlib\nsys.path.insert(0, sys.argv[1])\nfor n in sys.stdin.read().split():\n"
            " try: importlib.import_module(n); print(n, file=sys.stderr)\n except BaseException: pass\n"
        )
        result = subprocess.run(
            [self.python, "-I", "-S", "-c", probe, top],
            input="\n".join(names),
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=60,
            check=False,
        )
        return [line for line in result.stderr.split("\n") if line in names][:MODULES]

    @property
    def python(self) -> str:
        return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
