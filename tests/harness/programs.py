"""Tiny C programs, compiled once a session, into a directory that every identity can read."""

import subprocess
from pathlib import Path

PROBES = Path(__file__).parent.parent / "probes"
QUIET = (  # what probes do on purpose
    "nonnull int-conversion unused-result format-truncation format-overflow missing-field-initializers"
)
FLAGS = [
    "-O1",
    "-g",
    "-D_GNU_SOURCE",
    "-pthread",
    "-Wall",
    "-Wextra",
    *(f"-Wno-{name}" for name in QUIET.split()),
]


class Programs:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o755)

    def build(self, source: Path, *flags: str) -> Path:
        output = self.directory / source.stem
        if not output.exists():
            command = ["cc", *FLAGS, *flags, "-o", output, source]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
            output.chmod(0o755)
        return output

    def probe(self, name: str) -> Path:
        """tests/probes/NAME.c, static: it must run in any root, and libc's loader is no part of what is
        compared."""
        return self.build(PROBES / f"{name}.c", "-static")

    @property
    def confine(self) -> Path:
        return self.build(Path(__file__).parent / "confine.c", "-static")

    def source(self, name: str, text: str, *flags: str) -> Path:
        """A program given as text by a test; NAME is unique to that text."""
        path = self.directory / f"{name}.c"
        if not path.exists():
            path.write_text(text)
        return self.build(path, *flags)
