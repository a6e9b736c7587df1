"""The engine's session as Python holds it: filled in, started with a listener, asked for counts, stopped."""

import errno
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from vuosd.abi.syscalls import engine_rows
from vuosd.supervisor.engine._engine import ffi, lib
from vuosd.supervisor.values import (
    Asked,
    Below,
    Claim,
    Flight,
    Lost,
    Ordinary,
    Placed,
    Resolved,
    Stacked,
    Wired,
)

THREADS = 4

_ROWS = ffi.new("struct vu_row[]", list(engine_rows()))
_COUNTS = [name for name, _ in ffi.typeof("struct vu_stats").fields]

_LOST_ROOM = 1 << 16
"""Bytes for the names of files that are lost."""


class Session:
    """A vu_session. Once it is started everything may be called from any thread, until `stop`."""

    def __init__(
        self,
        *,
        tag: int,
        cookie: int,
        broker: int,
        enforce: bool,
        privileged: bool,
        broker_memory: bool,
        keeper: int = -1,
        protected_links: bool = False,
        protected_hardlinks: bool = False,
        mounts: bool = False,
        fusermount: int = -1,
    ) -> None:
        """`keeper`: the socket to the launcher, which prints the engine's warnings; it must outlive us.
        `protected_links`: the sysctl fs.protected_symlinks holds for links that the engine follows;
        `protected_hardlinks`: fs.protected_hardlinks for what it copies up to link it, and in wire mounts.
        `mounts`: there is a mounter, who takes and answers what is asked. Else mount(2) and umount2(2) are
        EPERM, and /dev/fuse is the machine's. To be told to `filter.build` as well.
        `fusermount`: descriptor of a static program that is executed for any fusermount or fusermount3, the
        session's from now on; -1: they are themselves.
        """
        self._users: list[None] = []
        self.log, self._log = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.setblocking(False)
        self._log.setblocking(False)
        options = ffi.new("struct vu_options *")
        options.tag, options.cookie, options.broker, options.threads = tag, cookie, broker, THREADS
        options.log, options.keeper = self._log.fileno(), keeper
        options.fusermount = fusermount
        options.flags = (
            (lib.VU_SESSION_ENFORCE if enforce else 0)
            | (lib.VU_SESSION_PRIVILEGED if privileged else 0)
            | (lib.VU_SESSION_BROKER_MEMORY if broker_memory else 0)
            | (lib.VU_SESSION_PROTECTED_LINKS if protected_links else 0)
            | (lib.VU_SESSION_MOUNTS if mounts else 0)
            | (lib.VU_SESSION_PROTECTED_HARDLINKS if protected_hardlinks else 0)
        )
        self._session = lib.vu_session_new(options, _ROWS, len(_ROWS))
        if self._session == ffi.NULL:
            raise MemoryError

    def add(self, entry: Placed) -> None:
        flags = lib.VU_ENTRY_READONLY if entry.readonly else 0
        _check(
            lib.vu_session_entry(
                self._session, entry.kind, flags, entry.target, entry.source, entry.source_path or ffi.NULL
            )
        )

    def add_stack(self, stack: Stacked) -> None:
        """The descriptors are the session's, also when this raises OSError."""
        options, _kept = _stack_options(stack)
        _check(lib.vu_session_stack(self._session, options))

    def mount_stack(
        self, stack: Stacked, space: int = 0, below: Below | None = None, *, served: bool = False
    ) -> int:
        """As `mount`, of several trees, while the session runs. `served`: one of them is a file system that a
        process serves. The descriptors are the session's, also when this raises OSError; they are closed when
        the last namespace that has it has unmounted it.
        """
        options, _kept = _stack_options(stack)
        beneath = ffi.new("char[]", below.path) if below is not None else ffi.NULL
        how = ffi.new("struct vu_mount_options *")
        how.space, how.below, how.wire = space, beneath, stack.wire
        how.flags = (
            (lib.VU_ENTRY_SERVED if served else 0)
            | (lib.VU_ENTRY_ALL if below is not None and below.all else 0)
            | (lib.VU_ENTRY_FROZEN if below is not None and below.frozen else 0)
        )
        how.origin = below.space if below is not None else 0
        return self._call(lib.vu_session_mount_stack, options, how)

    def start(self, listener: int, start: bytes = b"/") -> int:
        """`start` is the view path of the command's first directory. The listener's number."""
        _check(lib.vu_session_cwd(self._session, start))
        return _check(lib.vu_session_start(self._session, listener))

    def listen(self, listener: int, broker: int = -1, keeper: int = -1) -> int:
        """Answer at another listener too, while the session runs: of a launcher that has entered it, whose
        filter is the same. Broker and keeper are that launcher's, as in __init__; all three stay the
        caller's. The listener's number, > 0. OSError.
        """
        return self._call(lib.vu_session_listen, listener, broker, keeper)

    def unlisten(self, number: int) -> None:
        """Once no process has its filter any more. Waits for its threads. Raises OSError(EINVAL)."""
        self._call(lib.vu_session_unlisten, number)

    def mount(
        self,
        entry: Placed,
        space: int = 0,
        below: Below | None = None,
        *,
        first: bool = False,
        locked: bool = False,
        wire: int = 0,
        within: bytes = b"",
    ) -> int:
        """Show `entry` on top of what is at its target, to all members at once, while the session runs.

        entry.target: canonical path in the view. entry.kind: BIND, TMPFS or HIDE. entry.source: O_PATH, the
        session's from then on, but the caller's still when this raises. entry.source_path: what
        /proc/self/fd says of it, also when that is a path in another mount namespace; no other mount of the
        session should have the same one.
        space: the mount namespace, whose members they are. below: what comes with it, and goes with it.
        first: it is an entry of the namespace's view, made before there is a member: it covers what is
        mounted at and below its target, and nobody has been beneath it.
        locked: it comes with each later bind of what lies around it, and who was beneath it is there no more.
        within: what it shows lies in an entry of several trees, at this view path of namespace below.space;
        entry.kind: COW, and no source.
        wire: the number of a wire mount of which this shows all or a part, elsewhere or in another way;
        entry.kind: WIRE, and the source the anchor of its root. The server can be ended when all have gone.

        Returns the mount's number, > 0 and never used again. Raises OSError: EINVAL, ENOMEM, ESRCH (no such
        namespace, or wire mount), ENOENT (the anchor is none any more).
        """
        texts = [ffi.new("char[]", text) if text else ffi.NULL for text in entry[4:8]]
        target = ffi.new("char[]", entry.target)
        options = ffi.new("struct vu_mount_options *")
        options.target, options.kind, options.source = target, entry.kind, entry.source
        options.flags = (
            (lib.VU_ENTRY_READONLY if entry.readonly else 0)
            | (lib.VU_ENTRY_SERVED if entry.served else 0)
            | (lib.VU_ENTRY_FIRST | lib.VU_ENTRY_COVERS if first else 0)
            | (lib.VU_ENTRY_LOCKED if locked else 0)
            | (lib.VU_ENTRY_ALL if below is not None and below.all else 0)
        )
        options.source_path, options.type, options.name, options.options = texts
        options.space, options.wire = space, wire
        inside = ffi.new("char[]", within) if within else ffi.NULL
        options.within = inside
        beneath = ffi.new("char[]", below.path) if below is not None else ffi.NULL
        options.below = beneath
        options.origin = below.space if below is not None else 0
        return self._call(lib.vu_session_mount, options)

    def conceal(self, path: bytes) -> None:
        """Hide a directory of the machine, by its real path, wherever the session shows it, and whatever is
        bound from there later; who is in it is there no more. OSError.
        """
        host = ffi.new("char[]", path)
        self._call(lib.vu_session_conceal, host)

    def unmount(self, number: int, space: int = 0) -> bool:
        """Take the mount away; what lay below it shows again. The members that have something of it open, or
        stand in it, keep that, as after umount2(MNT_DETACH).

        True: the session's descriptor of it is closed. False: calls that began before still use it (one that
        waits for a server, say), and it is closed when the last of them has ended. Raises OSError: EINVAL for
        what is no number of a mount.
        """
        return self._call(lib.vu_session_unmount, space, number) == 0

    def new_space(self, like: int = 0) -> int:
        """A new mount namespace, which begins as a copy of another; its number. Raises OSError: ENOSPC when
        there are too many, ESRCH.
        """
        return self._call(lib.vu_session_space, like)

    def enter(self, id: int, space: int) -> None:
        """The caller of an asked call is in this namespace from now on, with what it starts. OSError."""
        self._call(lib.vu_session_enter, id, space)

    def space_of(self, state: int) -> int:
        """The namespace of members with this state in their tag. Raises OSError(ESRCH)."""
        return self._call(lib.vu_session_space_of, state)

    def came_by(self, state: int, cwd: bool) -> int:
        """By which mount (its number) members with this state in their tag have come to their working
        directory, or to what they have open, where the view shows that at several places; 0 where that is
        not known. Raises OSError(ESRCH).
        """
        return self._call(lib.vu_session_came_by, state, cwd)

    def state_in(self, space: int) -> int:
        """The state of a process that begins in a namespace, for its tag. Raises OSError: ESRCH (no such
        namespace), ENOSPC.
        """
        return self._call(lib.vu_session_state, space)

    def end_space(self, space: int) -> None:
        """Of a namespace without a member. Its number may be another's then. OSError."""
        self._call(lib.vu_session_space_end, space)

    def mount_wire(self, wire: Wired, space: int = 0) -> int:
        """Show what a FUSE server serves, on top of what is at the target, as `mount` does. Waits for the
        server to begin: not to be called by a thread that others wait for.

        Both descriptors are the session's then, also when this raises. Returns the mount's number. Raises
        OSError: EPROTO (it speaks no FUSE that we know), ENOTCONN (it has gone), EIO (no answer in time),
        what it says of its root, and EMFILE, ENOSPC and the like of the cache.
        """
        told = (wire.type, wire.name, wire.options)
        texts = [ffi.new("char[]", text) if text else ffi.NULL for text in told]
        target = ffi.new("char[]", wire.target)
        options = ffi.new("struct vu_wire_mount *")
        options.target, options.socket, options.cache = target, wire.socket, wire.cache
        options.flags = lib.VU_ENTRY_READONLY if wire.readonly else 0
        options.deadline_ms, options.largest = int(wire.deadline * 1000), wire.largest
        options.fixed, options.file, options.no_devices = wire.fixed, wire.file, wire.no_devices
        options.type, options.name, options.options = texts
        options.space = space
        return self._call(lib.vu_session_wire, options)

    def settle_wire(self, number: int) -> list[Lost]:
        """Write back what is left of a wire mount that has been unmounted. Waits for its server, but asks
        nothing where nothing is to be written.

        Returns the files that could not be written back, of very many the first. Raises OSError: EBUSY while
        calls still use the mount, or another thread does the same; EINVAL.
        """
        return self._lost(lib.vu_session_wire_settle, number)

    def end_wire(self, number: int) -> list[Lost]:
        """The same, and then end its server, which is told to put its things in order. Waits for that.

        Returns and raises the same. What is not ended so is when the session stops.
        """
        return self._lost(lib.vu_session_wire_end, number)

    def _lost(self, call: Callable[..., int], number: int) -> list[Lost]:
        names = ffi.new("char[]", _LOST_ROOM)
        self._call(call, number, names, _LOST_ROOM)
        found = [text.partition(b" ") for text in bytes(ffi.buffer(names)).split(b"\0") if text]
        return [Lost(path, int(error)) for error, _, path in found]

    def flights(self, number: int) -> list[Flight]:
        """The requests of a wire mount that wait for its server, 64 at most. Raises OSError(EINVAL)."""
        out = ffi.new("struct vu_wire_flight[]", 64)
        count = min(self._call(lib.vu_session_wire_flights, number, out, 64), 64)
        return [Flight(f.opcode, f.pid, f.node, f.age_ns / 1e9) for f in out[0:count]]

    def announce(self, calls: Sequence[int], ordinary: Sequence[Ordinary]) -> None:
        """Before the start: the filter traps calls of these numbers for modules. What is not claimed of
        them, and is not `ordinary`, goes on in the kernel.
        """
        numbers = ffi.new("uint32_t[]", list(calls))
        conditions = ffi.new("struct vu_ordinary[]", list(ordinary))
        _check(lib.vu_session_announce(self._session, numbers, len(calls), conditions, len(ordinary)))

    def claim(self, claims: Sequence[Claim]) -> None:
        """What modules answer, for calls that begin from now on: all of it, in place of what it was before.
        The first claim that fits has a call. Raises OSError.
        """
        paths = [ffi.new("char[]", claim.path) if claim.path else ffi.NULL for claim in claims]
        made = ffi.new("struct vu_claim[]", max(1, len(claims)))
        for at, claim in enumerate(claims):
            made[at].id, made[at].nr, made[at].arg = claim.id, claim.nr, claim.arg
            made[at].mask, made[at].value, made[at].ops = claim.mask, claim.value, claim.ops
            made[at].path = paths[at]
        self._call(lib.vu_session_claim, made, len(claims))

    def claimed_path(self, id: int) -> bytes:
        """The path in the view by which an asked call is claimed; b"" if it is not by one. OSError."""
        room = 1 << 15
        buffer = ffi.new("char[]", room)
        length = self._call(lib.vu_session_claimed_path, id, buffer, room)
        return bytes(ffi.buffer(buffer, length))

    def proceed(self, id: int) -> bool:
        """The call is made, and answered, as if nobody had claimed it. It looks at file systems, and so may
        wait for their servers. False: the caller has gone.
        """
        return self._call(lib.vu_session_proceed, id) > 0

    def asked_fd(self) -> int:
        """A descriptor that is readable while calls wait to be taken. The session's; not to be read from.
        Raises OSError(EINVAL) in a session without a mounter.
        """
        return self._call(lib.vu_session_asked_fd)

    def take(self) -> Asked | None:
        """The next call to be answered; None when there is none. Those whose callers have died are dropped,
        so the descriptor may be readable for nothing.
        """
        out = ffi.new("struct vu_asked *")
        if not self._call(lib.vu_session_take, out):
            return None
        a, b, c, d, e, f = out.args
        op = ffi.string(out.op)
        assert isinstance(op, bytes)
        return Asked(
            out.id,
            out.tid,
            out.tgid,
            op.decode(),
            out.nr,
            (a, b, c, d, e, f),
            out.flags,
            out.claim,
            out.space,
        )

    def answer(self, id: int, value: int = 0, error: int = 0) -> bool:
        """The call returns `value`, or fails with the errno `error`. False: the caller has gone."""
        return self._call(lib.vu_session_answer, id, value, error) > 0

    def answer_descriptor(self, id: int, fd: int, cloexec: bool) -> bool:
        """The call returns a new descriptor of the open file description of `fd`, which stays ours as well.
        False: the caller has gone, or cannot take it (then it gets the errno: EMFILE). Raises OSError(EBADF)
        for an `fd` that cannot be handed over, as with O_PATH; the call waits on.
        """
        return self._call(lib.vu_session_answer_descriptor, id, fd, cloexec) > 0

    def read(self, tid: int, id: int, address: int, size: int) -> bytes:
        """Memory of the caller of an asked call: exactly `size` bytes. Raises OSError: EFAULT; EACCES when it
        may not be read; ESRCH when the caller has gone.
        """
        buffer = ffi.new("char[]", size)
        self._call(lib.vu_session_read, id, address, buffer, size)
        return bytes(ffi.buffer(buffer))

    def write(self, id: int, address: int, data: bytes) -> None:
        """The same, written: all of it or, where a part cannot be, EFAULT."""
        self._call(lib.vu_session_write, id, address, ffi.from_buffer(data), len(data))

    def read_string(self, tid: int, id: int, address: int, limit: int = 4096) -> bytes:
        """The same of a string, without its NUL. Raises also ENAMETOOLONG: no end within `limit` bytes."""
        buffer = ffi.new("char[]", limit)
        length = self._call(lib.vu_session_read_string, id, address, buffer, limit)
        return bytes(ffi.buffer(buffer, length))

    def resolve(
        self, id: int, dirfd: int, path: bytes, follow: bool = True, *, write: bool = False
    ) -> Resolved:
        """Where `path` leads the caller of an asked call, by its rights, root and working directory.

        dirfd: a descriptor of the caller's, or AT_FDCWD (-100). follow: also a last symbolic link. write: it
        is a file that is to be written, by who opens it anew: in a COW it has been copied into the layer.
        It looks at file systems, and so waits for their servers. Raises OSError: what the path walk gives
        (ENOENT, EACCES, ELOOP …), and a copy (EROFS, ENOSPC …); ESRCH when the caller has gone.
        """
        out = ffi.new("struct vu_resolved *")
        flags = (lib.VU_RESOLVE_FOLLOW if follow else 0) | (lib.VU_RESOLVE_WRITE if write else 0)
        self._call(lib.vu_session_resolve, id, dirfd, path, flags, out)
        return _resolved(out)

    def look(self, path: bytes, space: int = 0, *, write: bool = False, wired: bool = False) -> Resolved:
        """What the view has at a canonical path, by the supervisor's own rights; `write` as for `resolve`.
        Raises OSError: also ELOOP for a symbolic link on the way, EXDEV for what lies in a wire mount
        unless `wired`: then its anchor.
        """
        out = ffi.new("struct vu_resolved *")
        flags = (lib.VU_RESOLVE_WRITE if write else 0) | (lib.VU_RESOLVE_WIRED if wired else 0)
        self._call(lib.vu_session_look, space, path, flags, out)
        return _resolved(out)

    def stats(self) -> dict[str, int]:
        """The counts of struct vu_stats, by name."""
        out = ffi.new("struct vu_stats *")
        self._call(lib.vu_session_stats, out)
        return {name: int(getattr(out, name)) for name in _COUNTS}

    def usage(self, number: int) -> int:
        """What a layer holds, in bytes on disk; it is gone through if that may be something else by now.
        `number`: of those with a size, in the order in which they were added or mounted; nothing of one that
        has been unmounted. OSError.
        """
        out = ffi.new("uint64_t *")
        _check(lib.vu_session_usage(self._session, number, out))
        return int(out[0])

    def stop(self) -> None:
        """Joins the threads; the sources are closed with it. Calls that nobody has answered get EIO, and who
        still looks at one in another thread is waited for.
        """
        session, self._session = self._session, ffi.NULL
        while self._users:
            time.sleep(0.001)
        lib.vu_session_stop(session)
        self.log.close()
        self._log.close()

    def _call(self, function: Callable[..., int], *arguments: object) -> int:
        """Its result, or OSError. The session stays until it returns."""
        self._users.append(None)  # before the look at _session: `stop` does the two in the other order
        try:
            if self._session == ffi.NULL:
                raise OSError(errno.ESRCH, "the session has ended")
            return _check(function(self._session, *arguments))
        finally:
            self._users.pop()


def _stack_options(stack: Stacked) -> tuple[Any, object]:
    """The engine's form, and what must live as long as that is used."""
    paths = [ffi.new("char[]", path) for path in stack.paths]
    descriptors, names = ffi.new("int32_t[]", stack.descriptors), ffi.new("char *[]", paths)
    target, handles_path = ffi.new("char[]", stack.target), ffi.new("char[]", stack.handles_path)
    options = ffi.new("struct vu_stack_options *")
    options.target, options.fds, options.paths = target, descriptors, names
    options.count = len(stack.descriptors)
    options.work, options.origins, options.handles = stack.work, stack.origins, stack.handles
    options.handles_path, options.size = handles_path, stack.size
    options.flags = (
        (lib.VU_STACK_WRITABLE if stack.writable else 0)
        | (lib.VU_STACK_MINIMAL if stack.kind == "mincow" else 0)
        | (lib.VU_STACK_SYNC if stack.sync else 0)
        | (lib.VU_STACK_XATTR_WHITEOUT if stack.attribute_whiteouts else 0)
    )
    return options, (paths, descriptors, names, target, handles_path)


def _resolved(out: Any) -> Resolved:
    view = ffi.string(out.view)
    assert isinstance(view, bytes)
    return Resolved(view, out.fd, bool(out.readonly), bool(out.served), bool(out.special))


def _check(result: int) -> int:
    """The result of a function of the engine, or OSError."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
