"""The FUSE client (engine/fuse_*.c) by itself: fuse_shell.c is built with it, sanitized, and spoken to."""

import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENGINE = HERE.parents[2] / "vuosd" / "supervisor" / "engine"
CHECKED = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-pthread", "-D_FILE_OFFSET_BITS=64"]
"""And what is built with them runs under ASan and UBSan."""
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(output: Path, *sources: Path, flags: Sequence[str] = SANITIZED) -> Path:
    """The client and `sources` as a program."""
    client = sorted(ENGINE.glob("fuse_*.c"))
    command = ["cc", *CHECKED, *flags, f"-I{ENGINE}", *sources, *client, "-o", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def build_server(output: Path, source: Path) -> Path:
    """A server with libfuse 3."""
    pkg = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=True
    )
    command = ["cc", *CHECKED, "-D_GNU_SOURCE", source, *pkg.stdout.split(), "-o", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


class Shell:
    """A running fuse_shell. `shell("lookup", 1, "name")` gives the answer, a dict; OSError for an errno."""

    def __init__(
        self, program: Path, deadline: float, tail: Sequence[str], pass_fds: Sequence[int] = ()
    ) -> None:
        self.process = subprocess.Popen(
            [str(program), str(int(deadline * 1000)), *tail],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            text=True,
        )

    def send(self, *words: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the shell died with {self.process.wait()}"
        result: dict[str, Any] = json.loads(line)
        if result["errno"]:
            raise OSError(result["errno"], os.strerror(result["errno"]))
        return result

    def __call__(self, *words: object) -> dict[str, Any]:
        self.send(*words)
        return self.answer()

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
        assert status == 0


@contextmanager
def running(program: Path, *command: object, deadline: float = 20) -> Iterator[Shell]:
    """With a server; "@" in its command is where it finds its end."""
    shell = Shell(program, deadline, ["--", *map(str, command)])
    try:
        shell("begin")
        yield shell
    finally:
        shell.end()


class Hostile:
    """The server's end of a socket, in the hands of a test."""

    def __init__(self, program: Path, deadline: float = 0.4) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        ours.settimeout(10)
        with theirs:
            self.shell = Shell(program, deadline, [str(theirs.fileno())], [theirs.fileno()])

    def receive(self) -> tuple[int, int, int, bytes]:
        """opcode, unique, node, what follows."""
        message = self.socket.recv(1 << 20)
        _, opcode, unique, node = struct.unpack_from("<IIQQ", message)
        return opcode, unique, node, message[40:]

    def reply(self, unique: int, data: bytes = b"", error: int = 0, length: int | None = None) -> None:
        size = 16 + len(data) if length is None else length
        self.socket.send(struct.pack("<IiQ", size, error, unique) + data)

    def begin(self, minor: int = 31, flags: int = 0) -> None:
        self.shell.send("begin")
        opcode, unique, _, _ = self.receive()
        assert opcode == 26
        self.reply(unique, struct.pack("<IIIIHHI", 7, minor, 131072, flags, 0, 0, 131072) + bytes(40))
        self.shell.answer()

    def ask(
        self, *words: object, data: bytes = b"", error: int = 0, length: int | None = None
    ) -> dict[str, Any]:
        """Make a request and answer it with this."""
        self.shell.send(*words)
        _, unique, _, _ = self.receive()
        self.reply(unique, data, error, length)
        return self.shell.answer()

    def close(self) -> None:
        self.socket.close()
        self.shell.end()
