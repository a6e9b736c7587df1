"""FUSE servers that exist already, as Debian packages them: how each is started in the foreground.

Those linked with libfuse 3 take /dev/fd/N for a mountpoint; those with libfuse 2 must call mount(2)
themselves (`needs_mount`). Options: https://manpages.debian.org of the program."""

import struct
from typing import Annotated, Any, Literal

import msgspec

from vuosd.api import MountOptions, Needs, ProgramType
from vuosd.api.needs import SSH
from vuosd.api.options import join

Offset = Annotated[int, msgspec.Meta(ge=0)] | None


def _plain(source: str, target: str, options: Any, *first: str) -> list[str]:
    """PROGRAM SOURCE MOUNTPOINT -f -o OPTIONS, which most understand."""
    words = msgspec.structs.asdict(options)
    given = {name: value for name, value in words.items() if value not in (None, False, [])}
    return [*first, source, target, "-f", *(["-o", join(given)] if given else [])]


class ExtOptions(MountOptions):
    """offset: bytes before the file system, in an image with partitions. norecovery: leave the journal as
    it is (read-only). fakeroot: permission checks of the file system as for root."""

    offset: Offset = None
    norecovery: bool = False
    fakeroot: bool = False
    errors: Literal["continue", "remount-ro", "panic"] | None = None


def _ext(name: str) -> ProgramType:
    return ProgramType(
        name,
        "fuse2fs",
        "fuse2fs",
        _plain,
        options=ExtOptions,
        summary="ext2, ext3 and ext4 images, by fuse2fs",
        exclusive=True,
        needs=Needs(),
    )


ext2, ext3, ext4 = map(_ext, ("ext2", "ext3", "ext4"))


class SquashfsOptions(MountOptions):
    """offset: bytes before the file system. timeout: seconds without use after which the server ends."""

    offset: Offset = None
    timeout: int | None = None


def _squashfs(source: str, target: str, options: SquashfsOptions) -> list[str]:
    options = msgspec.structs.replace(
        options, ro=False
    )  # it always is, and the program does not know the word
    return _plain(source, target, options)


squashfs = ProgramType(
    "squashfs",
    "squashfuse",
    "squashfuse",
    _squashfs,
    options=SquashfsOptions,
    readonly=True,
    summary="squashfs images",
    exclusive=True,
    needs=Needs(),
)


def _fat(source: str, target: str, options: MountOptions) -> list[str]:
    return [source, target, "-f", "-o", "ro" if options.ro else "rw+"]


def _is_fat(start: bytes) -> bool:
    """As fat_read_bpb of the kernel (fs/fat/inode.c); the program takes anything for an empty file system."""
    if len(start) < 512:
        return False
    sector, cluster, reserved, fats = struct.unpack_from("<HBHB", start, 11)
    return (
        sector in (512, 1024, 2048, 4096)
        and cluster.bit_count() == 1
        and reserved > 0
        and fats > 0
        and (start[21] >= 0xF8 or start[21] == 0xF0)  # the medium
    )


fat = ProgramType(
    "fat",
    "fusefat",
    "fusefat",
    _fat,
    summary="FAT12, FAT16 and FAT32 images",
    exclusive=True,
    recognises=_is_fat,
    needs=Needs(),
)


class IsoOptions(MountOptions):
    """iocharset: of names in Joliet images."""

    iocharset: str | None = None


def _iso(source: str, target: str, options: IsoOptions) -> list[str]:
    charset = ["-c", options.iocharset] if options.iocharset else []
    return ["-n", *charset, source, target, "-f"]  # -n: it would write to ~/.mtab.fuseiso


iso = ProgramType(
    "iso",
    "fuseiso",
    "fuseiso",
    _iso,
    options=IsoOptions,
    readonly=True,
    summary="ISO 9660 images",
    exclusive=True,
    needs=Needs(),
)


def _zip(source: str, target: str, options: MountOptions) -> list[str]:
    return [*(["-r"] if options.ro else []), "-f", source, target]


zip = ProgramType(
    "zip",
    "fuse-zip",
    "fuse-zip",
    _zip,
    summary="zip archives that can be changed; archive only reads them",
    exclusive=True,
    needs=Needs(beside=True),
)


class SshfsOptions(MountOptions):
    """Of sshfs(1): where and how to connect. ssh: further options of ssh(1), as in
    ssh=StrictHostKeyChecking=yes, any number."""

    port: int | None = None
    compression: Literal["yes", "no"] | None = None
    reconnect: bool = False
    ssh_command: str | None = None
    directport: int | None = None
    idmap: Literal["none", "user", "file"] | None = None
    follow_symlinks: bool = False
    ssh: list[str] = msgspec.field(default_factory=list)


def _sshfs(source: str, target: str, options: SshfsOptions) -> list[str]:
    more = [word for option in options.ssh for word in ("-o", option)]
    return [*_plain(source, target, msgspec.structs.replace(options, ssh=[])), *more]


sshfs = ProgramType(
    "sshfs",
    "sshfs",
    "sshfs",
    _sshfs,
    options=SshfsOptions,
    kernel=(),  # who may do what is decided over there
    source_is_file=False,
    summary="a directory of another machine, [USER@]HOST:[DIRECTORY]",
    needs=SSH,
)


class BindfsOptions(MountOptions):
    """Of bindfs(1): whose the files seem to be, and with what permissions."""

    force_user: str | None = None
    force_group: str | None = None
    perms: str | None = None
    mirror: str | None = None
    map: str | None = None


def _bindfs(source: str, target: str, options: BindfsOptions) -> list[str]:
    given = msgspec.structs.asdict(options)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if isinstance(value, str)]
    return [*words, "--no-allow-other", "-f", *(["-r"] if options.ro else []), source, target]


bindfs = ProgramType(
    "bindfs",
    "bindfs",
    "bindfs",
    _bindfs,
    options=BindfsOptions,
    kernel=(),
    summary="a directory with other owners and permissions",
    needs=Needs(),
)
