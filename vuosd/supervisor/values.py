"""What the engine is told and what it tells, as values (engine/api.h has the same for C)."""

from typing import NamedTuple


class Placed(NamedTuple):
    """One entry as the engine wants it; `source` is an O_PATH descriptor that the session keeps. What a HIDE
    entry withholds is a path only.

    served: of a mount at run time: a process serves its file system (FUSE), so calls on it may take long
    type, name, options: of a mount at run time, what /proc/self/mounts tells of it: file-system type, source
    and options ("rw,nosuid,user_id=0"). Empty: what it tells of the mount that the source lies on.
    """

    kind: int
    readonly: bool
    target: bytes
    source: int = -1
    source_path: bytes = b""
    type: bytes = b""
    name: bytes = b""
    options: bytes = b""
    served: bool = False


class Below(NamedTuple):
    """What comes with a mount at run time: what is mounted below `path`, of namespace `space`. `all`: also
    what has been mounted at run time; else the entries of the view alone. `frozen`: read-only, of a COW.
    """

    path: bytes
    space: int = 0
    all: bool = False
    frozen: bool = False


class Stacked(NamedTuple):
    """Several trees as one, topmost first: a COW's changed tree and what is below it, or those of a MERGE.
    The session keeps the descriptors.

    kind: "cow", "mincow" or "merge"
    descriptors, paths: of each tree, O_PATH, and as the kernel names it
    sources: what the profile names, or means
    work, origins: of a layer: its directory for temporaries, its book; else -1
    handles: an empty directory of the session, -1 where the lowest tree lies at the target itself
    layer: its name; "" for one of this session alone
    size: bytes on disk that the changed tree may hold, 0: no limit
    wire: the number of the wire mount in which the last tree lies, whose descriptor is an anchor's; 0: none
    """

    kind: str
    target: bytes
    writable: bool
    descriptors: tuple[int, ...]
    paths: tuple[bytes, ...]
    sources: tuple[bytes, ...]
    work: int = -1
    origins: int = -1
    handles: int = -1
    handles_path: bytes = b""
    sync: bool = False
    attribute_whiteouts: bool = False
    layer: str = ""
    size: int = 0
    wire: int = 0


class Wired(NamedTuple):
    """A FUSE server that the engine itself speaks to.

    socket: our end of a socketpair of type SOCK_SEQPACKET, whose other end is the server's /dev/fuse
    cache: an empty directory, open for reading, on a file system with leases (tmpfs, ext4, …) and room for
    the files that are opened
    deadline: seconds for one request, 0: none
    largest: bytes of a file that can be opened, 0: no limit
    fixed: nothing of it changes, so that the server need not be asked twice
    file: its root is a regular file, no directory
    no_devices: its device files are none here, and cannot be opened
    type, name, options: as in Placed
    """

    target: bytes
    socket: int
    cache: int
    readonly: bool = False
    deadline: float = 0
    largest: int = 0
    fixed: bool = False
    file: bool = False
    no_devices: bool = False
    type: bytes = b""
    name: bytes = b""
    options: bytes = b""


class Lost(NamedTuple):
    """A file of a wire mount, by its path in it, that could not be written back, and why (an errno)."""

    path: bytes
    error: int


class Flight(NamedTuple):
    """A request that waits for the server of a wire mount.

    opcode: FUSE_*, linux/fuse.h
    pid: whose call it is for; 0: nobody waits for it any more
    node: of the server's
    age: seconds
    """

    opcode: int
    pid: int
    node: int
    age: float


class Claim(NamedTuple):
    """What a module answers: the calls of one number, `arg` having `value` under `mask` where it is not -1;
    or, with a `path` of the view, those of the operations `ops` (a bit each, by Op) that name what is there
    or below.

    id: above 0; Asked says it again
    """

    id: int
    nr: int = -1
    arg: int = -1
    mask: int = 0
    value: int = 0
    ops: int = 0
    path: bytes = b""


class Ordinary(NamedTuple):
    """When the filter would trap a call that it traps for modules, had there been none: `arg` under `mask`
    is `value`, or is not if not `equal`; always if `arg` is -1.
    """

    nr: int
    arg: int = -1
    mask: int = 0
    value: int = 0
    equal: bool = True


class Asked(NamedTuple):
    """A call of a member that waits for our answer.

    id: by which it is answered; no other call of the session ever has it
    tid, tgid: the thread that made it, and its process
    op: "mount", "umount", "open_fuse": an open of /dev/fuse, by whatever path, "door": engine/door.h, or
    "module": one that is claimed
    nr, args: the system call and its registers: numbers and addresses
    flags: of "open_fuse", those of open(2)
    claim: of "module", Claim.id
    space: its mount namespace
    """

    id: int
    tid: int
    tgid: int
    op: str
    nr: int
    args: tuple[int, int, int, int, int, int]
    flags: int = 0
    claim: int = 0
    space: int = 0


class Resolved(NamedTuple):
    """Where a path of a member leads.

    view: canonical path in the view; empty for an object that has none (a pipe, by /proc/self/fd)
    fd: O_PATH, of the object; the receiver's to close
    readonly: an entry of the view forbids to change it
    served: a process serves its file system
    special: it lies in an entry of several trees, or in a wire mount: the object is not all that the view has
    """

    view: bytes
    fd: int
    readonly: bool
    served: bool = False
    special: bool = False
