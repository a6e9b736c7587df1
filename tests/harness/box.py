"""One test's box: a scratch directory of an identity, in a place, with an installed vuosd; programs are run
natively and in a view."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness import leaks, processes
from harness.identities import Identity
from harness.installation import Installation
from harness.places import Place
from harness.programs import Programs

Argument = str | bytes | Path
TIMEOUT = 60.0


@dataclass(frozen=True)
class Result:
    argv: Sequence[Argument]
    returncode: int
    stdout: str
    stderr: str

    def check(self) -> "Result":
        """This result, if the command succeeded; else the test fails with everything it said."""
        assert self.returncode == 0, f"{self.argv} ended with {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self


class TookTooLong(AssertionError):
    pass


@dataclass
class Box:
    identity: Identity
    place: Place
    installation: Installation
    programs: Programs
    scratch: Path  # the identity's own, removed after the test
    daemon: int | None = (
        None  # process id of the vuosd whose socket is in `runtime`, or None: a private one for each run
    )
    runtime: Path | None = None
    pretend: bool = False  # views are no views: everything runs natively
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """A small environment, the same on every machine."""
        env = {
            "HOME": str(self.scratch / "home"),
            "PATH": f"{self.installation.bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.scratch / "tmp"),
            "USER": self.identity.name,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        if self.runtime:
            env["XDG_RUNTIME_DIR"] = str(self.runtime)
        return env

    @property
    def outer(self) -> list[Argument]:
        """What puts a program in this box's place, as its identity."""
        words = [*self.place.around, *self.identity.wrapper]
        # The mount namespace is made with the privilege, the filters are put on without.
        first = [word for word in words if word in ("no-fuse", "fuse")]
        last = [word for word in words if word not in first and not word.startswith("user=")]
        return [self.programs.confine, *first, *self.identity.wrapper, *last, "--"] if words else []

    def give(self, path: Path) -> Path:
        """`path`, and all below it, made the identity's own."""
        if not self.identity.is_us:
            for top, directories, files in os.walk(path):
                for name in ("", *directories, *files):
                    os.chown(
                        os.path.join(top, name), self.identity.uid, self.identity.gid, follow_symlinks=False
                    )
        return path

    def directory(self, name: str) -> Path:
        path = self.scratch / name
        path.mkdir(parents=True)
        return self.give(path)

    def file(self, name: str, text: str | bytes = "", mode: int = 0o644) -> Path:
        path = self.scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        self.give(path.parent if path.parent != self.scratch else path)
        if not self.identity.is_us:
            os.chown(path, self.identity.uid, self.identity.gid)
        return path

    def profile(self, text: str) -> Path:
        with tempfile.NamedTemporaryFile(
            "w", dir=self.scratch, prefix="view-", suffix=".toml", delete=False
        ) as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        return Path(file.name)

    def vuos_run(self, profile: str | Path | None = None, *options: str) -> list[Argument]:
        """The launcher's command line up to the command: `profile` is a file, or the text of one."""
        if self.pretend:
            return []
        if isinstance(profile, str):
            profile = self.profile(profile)
        view: list[Argument] = [] if profile is None else [f"--view={profile}"]
        return [self.installation.vuos_run, *view, *options, "--"]

    # Running

    def popen(
        self,
        argv: Sequence[Argument],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        outer: Sequence[Argument] | None = None,
        **more: Any,
    ) -> "subprocess.Popen[bytes]":
        """Start, in this box's place and as its identity, unless `outer` is another way to start programs."""
        process = subprocess.Popen(
            [os.fspath(word) for word in (*(self.outer if outer is None else outer), *argv)],
            env={**self.env, **(env or {})},
            cwd=cwd or self.scratch,
            **{"stdin": subprocess.DEVNULL, "start_new_session": True, **more},
        )
        self.running.append(process)
        return process

    def native(
        self,
        argv: Sequence[Argument],
        *,
        timeout: float = TIMEOUT,
        input: str | bytes | None = None,
        **more: Any,
    ) -> Result:
        """Run to the end, outside of any view."""
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            tempfile.TemporaryFile() as into,
        ):
            if input is not None:
                into.write(input.encode() if isinstance(input, str) else input)
                into.seek(0)
            # Files and not pipes: who holds an end of a pipe after the command is dead must not keep the test
            # waiting.
            process = self.popen(argv, **{"stdout": out, "stderr": err, "stdin": into, **more})
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                tree = "\n".join(f"  {entry}" for entry in processes.descendants(process.pid))
                processes.kill_tree(process.pid)
                process.wait()
                raise TookTooLong(
                    f"{argv} took more than {timeout} s\n{_text(out)}\n{_text(err)}\n{tree}"
                ) from None
            return Result(argv, process.returncode, _text(out), _text(err))

    def view(
        self,
        argv: Sequence[Argument],
        profile: str | Path | None = None,
        *,
        options: Sequence[str] = (),
        **more: Any,
    ) -> Result:
        """Run to the end in a view: `profile` is a file or the text of one, None the pass-through view."""
        return self.native([*self.vuos_run(profile, *options), *argv], **more)

    def popen_view(
        self, argv: Sequence[Argument], profile: str | Path | None = None, **more: Any
    ) -> "subprocess.Popen[bytes]":
        return self.popen([*self.vuos_run(profile), *argv], **more)

    # The end

    def census(self) -> leaks.Census:
        directories = (self.runtime,) if self.runtime else ()
        return leaks.Census(self.identity.uid, directories, (self.daemon,) if self.daemon else ())

    def finish(self, before: leaks.Census) -> list[str]:
        """End what the test left running, and say what stays behind of it all."""
        left = [process for process in self.running if process.poll() is None]
        for process in left:
            processes.kill_tree(process.pid)
            process.wait()
        for process in self.running:
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        self.running.clear()
        found: list[str] = []

        def clean() -> bool:
            found[:] = before.leaks(set())
            return not found

        processes.until(clean, 5.0)
        for process in processes.descendants():
            if (process.pid, process.start) not in before.processes and process.pid not in before._spare():
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except OSError:
                    pass
        shutil.rmtree(self.scratch, onerror=_force)
        return found


def _force(function: Any, path: str, _: Any) -> None:
    """A test's tree has directories without permissions: give them, and try again."""
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")
