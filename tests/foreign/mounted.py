"""Where a test of a file system runs: in a directory that a FUSE server shows, mounted natively or in a view.

The first word of such a test's argv is the server's name, see SERVERS; "{mnt}" in the others becomes the
mount's directory, and "{src}" the one that the server shows. In a view vumount(1) mounts it as it does by
itself: by the kernel's transport, or by wire where there is no /dev/fuse; who serves a directory is a process
of the view, others are not.
"""

from collections.abc import Sequence
from pathlib import Path

from harness import places
from harness.identities import Identity
from harness.programs import Programs

from foreign.settings import Setting, Settings

TRANSPORTS = {"native": places.FUSE, "kernel": places.FUSE, "wire": places.NO_FUSE}
SERVERS = {
    "passthrough": "-f MNT -o modules=subdir,subdir=SRC,OPTIONS",
    "passthrough_fh": "-f MNT -o modules=subdir,subdir=SRC,OPTIONS",
    "passthrough_ll": "-f MNT -o source=SRC,OPTIONS",
    "passthrough_hp": "--foreground --nocache SRC MNT",
    "memfs_ll": "-f MNT -o OPTIONS",
    "memfs_ll-no_timeout": "-f MNT -o no_timeout,OPTIONS",
}
"""libfuse's examples, by their command lines; what follows "-" is none of the program's name."""
IN_MEMORY = frozenset({"memfs_ll", "memfs_ll-no_timeout"})
"""Those that show no directory of the machine's. Of all files they say that they are root's."""

# SCRIPT SERVER-SCRIPT MNT SRC COMMAND...
NATIVE = """
server=$1 mnt=$2; shift 3
"$server" "$mnt" & pid=$!
until mountpoint -q "$mnt"; do kill -0 $pid || exit 125; sleep 0.01; done
(cd "$mnt" && exec "$@"); status=$?
cd /; umount "$mnt" 2>/dev/null || fusermount3 -u "$mnt"; wait $pid; exit $status
"""
MOUNTED = """
server=$1 mnt=$2 src=$3; shift 3
vumount -t "fuse.$server" "$src" "$mnt" || exit 125
(cd "$mnt" && exec "$@"); status=$?
cd /; vuumount "$mnt" || exit 125; exit $status
"""


def program_of(server: str, libfuse: Path) -> Path:
    return libfuse / "example" / server.partition("-")[0]


class MountedSettings(Settings):
    """/dev/fuse is there for everybody, as on most machines, or for nobody; no mount table but its own is
    changed.
    """

    def __init__(self, identity: Identity, parent: str, libfuse: Path) -> None:
        self.libfuse = libfuse
        super().__init__(identity, parent)

    def make_settings(self) -> dict[str, Setting]:
        confine = Programs(self.top / "programs").confine
        settings: dict[str, Setting] = {}
        for name, place in TRANSPORTS.items():
            around = [str(confine), *place.around, *self.identity.wrapper, "--"]
            runtime = self.start(f"run-{name}", around)
            settings[name] = MountedSetting(self, name, runtime, around)
        return settings

    def environment(self) -> dict[str, str]:
        """With vumount."""
        environment = super().environment()
        return {**environment, "PATH": f"{environment['PATH']}:{self.installation.bin}"}


class MountedSetting(Setting):
    """One transport. A server is a script of its own, for those that take their options another way."""

    def __init__(
        self, settings: MountedSettings, transport: str, runtime: Path, around: Sequence[str]
    ) -> None:
        super().__init__(settings, transport, runtime)
        self.transport, self.around = transport, around
        self.source = settings.directory(f"{transport}/store/src", 0o777)
        self.mnt = settings.directory(f"{transport}/mnt", 0o777)
        self.store = self.source
        self.bin = settings.directory(f"{transport}/bin", 0o755)
        user = settings.identity.uid
        options = {
            "OPTIONS": "default_permissions" if user else "allow_other,default_permissions",
            "SRC": str(self.source),
            "MNT": '"$1"',
        }
        for name, line in SERVERS.items():
            for word, meaning in options.items():
                line = line.replace(word, meaning)
            script = self.bin / name
            # Whoever mounts it looks whether libfuse3.so stands in the program, and names the source, as that
            # is what a server may change.
            skip = "[ $# = 1 ] || shift"
            start = f"{skip}\nexec {program_of(name, settings.libfuse)} {line}\n"
            script.write_text(f"#!/bin/sh\n# of libfuse3.so\n{start}")
            script.chmod(0o755)

    def words(self, argv: Sequence[str]) -> list[str]:
        server = str(self.bin / argv[0])
        command = [
            word.replace("{mnt}", str(self.mnt)).replace("{src}", str(self.source)) for word in argv[1:]
        ]
        source = "none" if argv[0] in IN_MEMORY else str(self.source)
        words = [server, str(self.mnt), source, *command]
        if self.transport == "native":
            alone = ["unshare", "--mount", "--propagation", "private"]
            return [*alone, *self.around, "sh", "-c", NATIVE, "sh", *words]
        run = [*self.around, str(self.settings.installation.vuos_run), "--"]
        return [*run, "sh", "-c", MOUNTED, "sh", *words]
