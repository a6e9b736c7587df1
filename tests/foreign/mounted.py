"""Where a test of a file system runs: in a directory that a FUSE server shows, mounted natively or in a view.

The first word of such a test's argv is the server's name, see SERVERS; "{mnt}" in the others becomes the
mount's directory, and "{src}" the one that the server shows.
"""

from collections.abc import Sequence
from pathlib import Path

from harness import places
from harness.identities import Identity
from harness.programs import Programs

from foreign.settings import Setting, Settings

TRANSPORTS = ("native", "kernel", "wire")
SERVERS = {
    "passthrough": "-f MNT -o modules=subdir,subdir=SRC,OPTIONS",
    "passthrough_fh": "-f MNT -o modules=subdir,subdir=SRC,OPTIONS",
    "passthrough_ll": "-f MNT -o source=SRC,OPTIONS",
    "passthrough_hp": "--foreground --nocache SRC MNT",
}
"""libfuse's examples, by their command lines."""

# SCRIPT SERVER-SCRIPT MNT COMMAND...
NATIVE = """
server=$1 mnt=$2; shift 2
"$server" "$mnt" & pid=$!
until mountpoint -q "$mnt"; do kill -0 $pid || exit 125; sleep 0.01; done
(cd "$mnt" && exec "$@"); status=$?
cd /; umount "$mnt" 2>/dev/null || fusermount3 -u "$mnt"; wait $pid; exit $status
"""
# SCRIPT SERVER-SCRIPT MNT TRANSPORT SRC COMMAND...
MOUNTED = """
server=$1 mnt=$2 transport=$3 src=$4; shift 4
vumount -t "fuse.$server" -o "transport=$transport" "$src" "$mnt" || exit 125
(cd "$mnt" && exec "$@"); status=$?
cd /; vuumount "$mnt" || exit 125; exit $status
"""


class MountedSettings(Settings):
    """Everything may open /dev/fuse, as on most machines; nobody else's mount table is changed."""

    def __init__(self, identity: Identity, parent: str, libfuse: Path) -> None:
        self.libfuse = libfuse
        self.confine: Path | None = None
        super().__init__(identity, parent)

    def make_settings(self) -> dict[str, Setting]:
        return {name: MountedSetting(self, name) for name in TRANSPORTS}

    def environment(self) -> dict[str, str]:
        """With vumount."""
        environment = super().environment()
        return {**environment, "PATH": f"{environment['PATH']}:{self.installation.bin}"}

    def around(self) -> list[str]:
        if self.confine is None:
            self.confine = Programs(self.top / "programs").confine
        return [str(self.confine), *places.FUSE.around, *self.identity.wrapper, "--"]


class MountedSetting(Setting):
    """One transport. A server is a script of its own, for those that take their options another way."""

    def __init__(self, settings: MountedSettings, transport: str) -> None:
        super().__init__(settings, transport)
        self.transport = transport
        self.around = settings.around()
        self.source = settings.directory(f"{transport}/store/src", 0o777)
        self.mnt = settings.directory(f"{transport}/mnt", 0o777)
        self.store = self.source
        self.bin = settings.directory(f"{transport}/bin", 0o755)
        options = "allow_other,default_permissions" if not settings.identity.uid else "default_permissions"
        for name, words in SERVERS.items():
            line = words.replace("SRC", str(self.source)).replace("OPTIONS", options).replace("MNT", '"$1"')
            script = self.bin / name
            # Whoever mounts it looks whether libfuse3.so stands in the program, and names the source, as that
            # is what a server may change.
            skip = f'[ "$1" != "{self.source}" ] || shift'
            start = f"{skip}\nexec {settings.libfuse}/example/{name} {line}\n"
            script.write_text(f"#!/bin/sh\n# of libfuse3.so\n{start}")
            script.chmod(0o755)

    def words(self, argv: Sequence[str]) -> list[str]:
        server = str(self.bin / argv[0])
        command = [
            word.replace("{mnt}", str(self.mnt)).replace("{src}", str(self.source)) for word in argv[1:]
        ]
        if self.transport == "native":
            alone = ["unshare", "--mount", "--propagation", "private"]
            return [*alone, *self.around, "sh", "-c", NATIVE, "sh", server, str(self.mnt), *command]
        run = [*self.around, str(self.settings.installation.vuos_run), "--"]
        words = [server, str(self.mnt), self.transport, str(self.source)]
        return [*run, "sh", "-c", MOUNTED, "sh", *words, *command]
