"""A tree with everything that an attack may want: what may be seen beside what is withheld, and proof of what
was done."""

import os
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from harness.box import Box

SECRET = "SECRET"
WITHHELD = ("sec", "y/d", "mnt", "tmp")
"""Names in the tree below which nothing real may be had: hidden (twice), under a bind, under a tmpfs. "rot"
is `ro`."""


class Tree:
    """`top` holds pub, sec, x/d, y/d, mnt, src, tmp, rot, flip and flop; see race.c."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.top = box.scratch / "t"
        self._make()

    def make_anew(self) -> None:
        self.close()
        shutil.rmtree(self.top)
        self._make()

    def _make(self) -> None:
        self.top.mkdir()
        for name in ("pub", "x/d", "src"):
            self._fill(self.top / name, "public", 0o644)
        for name in (*WITHHELD, "rot"):
            self._fill(self.top / name, SECRET, 0o755)
        (self.top / "flip").symlink_to("pub")
        (self.top / "flop").symlink_to("sec")
        self.box.give(self.top)
        self.sockets = ExitStack()
        self.listeners: dict[str, socket.socket] = {}
        self.datagrams: dict[str, socket.socket] = {}
        for name in ("pub", *WITHHELD):
            self._listen(name)
        self.before = self.state()

    def _fill(self, path: Path, text: str, mode: int) -> None:
        """The program tells by its status that it ran; only the withheld one may be executed."""
        path.mkdir(parents=True)
        path.chmod(0o755)
        (path / "file").write_text(text + text)
        (path / "prog").write_text("#!/bin/sh\nexit 42\n")
        (path / "prog").chmod(mode)
        (path / "link").symlink_to(text)
        if text == SECRET:
            (path / "marker").touch()
        (path / "dir").mkdir()
        (path / "dir" / "inner").write_text(text)
        if text == SECRET:
            try:
                os.setxattr(path / "file", "user.secret", b"SECRET")
            except OSError:
                pass  # a tmpfs of an old kernel: then there is nothing to get

    def _listen(self, name: str) -> None:
        listener, datagram = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock, file in ((listener, "sock"), (datagram, "dgram")):
            path = self.top / name / file
            sock.bind(os.fspath(path))
            self.box.give(path)
            path.chmod(0o777)
            self.sockets.enter_context(sock)
            sock.setblocking(False)
        listener.listen(1024)
        self.listeners[name], self.datagrams[name] = listener, datagram

    def close(self) -> None:
        self.sockets.close()

    def received(self, name: str) -> int:
        """Connections and datagrams that have come to a withheld socket."""
        found = 0
        while True:
            try:
                self.listeners[name].accept()[0].close()
                found += 1
            except BlockingIOError:
                break
        while True:
            try:
                self.datagrams[name].recv(16)
                found += 1
            except BlockingIOError:
                return found

    def state(self, names: tuple[str, ...] = (*WITHHELD, "rot")) -> dict[str, object]:
        """All that can be changed of what is withheld or read-only."""
        found: dict[str, object] = {}
        for name in names:
            for at, directories, files in os.walk(self.top / name):
                for entry in (".", *directories, *files):
                    path = os.path.join(at, entry)
                    st = os.lstat(path)
                    try:
                        xattrs = tuple(os.listxattr(path, follow_symlinks=False))
                    except OSError:
                        xattrs = ()
                    found[os.path.relpath(path, self.top)] = (
                        st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_mtime_ns,
                        st.st_ctime_ns, xattrs,
                    )  # fmt: skip
        return found

    def changed(self, *names: str) -> list[str]:
        """Names of what is no longer as it was when the tree was made."""
        now = self.state()
        return sorted(
            path
            for path in self.before.keys() | now.keys()
            if self.before.get(path) != now.get(path) and (not names or path.startswith(names))
        )

    def profile(self, *, enforce: bool = True) -> str:
        return f"""
[view]
enforce = {"true" if enforce else "false"}
[[mount]]
type = "hide"
target = ["{self.top}/sec", "{self.top}/y/d"]
[[mount]]
type = "bind"
source = "{self.top}/src"
target = "{self.top}/mnt"
[[mount]]
type = "tmpfs"
target = "{self.top}/tmp"
[[mount]]
type = "ro"
target = "{self.top}/rot"
"""
