"""Messages between launcher, daemon, workers and vuctl: a header, a payload, descriptors by SCM_RIGHTS.

All sockets are SOCK_SEQPACKET, so a message is one sendmsg(2) and one recvmsg(2). What does not fit into a
packet goes in a memfd that comes with it.
"""

import array
import enum
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

MAGIC = b"VUOS"
VERSION = 1
HEADER = struct.Struct("=4sIII")
LARGEST = 65536
"""Payload of one packet: far below net.core.wmem_default, above what anybody sends but JSON."""
LONGEST_TEXT = 12000
"""Of a FAIL: the launcher reads into a buffer of 16 KiB."""

_MOST_FDS = 8
_FDS_SPACE = socket.CMSG_SPACE(_MOST_FDS * 4)


class Type(enum.IntEnum):
    """What a message says; the first eleven are the launcher's and its keeper's."""

    RUN = 1
    SETUP = 2
    FAIL = 3
    LISTENER = 4
    READY = 5
    EXITED = 6
    BYE = 7
    MEM = 8
    REMOTE = 9
    WARNING = 10
    """Worker to keeper: a sentence for the person."""
    ENTER = 11
    """As RUN, for a session that runs; launcher to daemon with the name of the view, daemon to worker with
    STATE, and the connection before the other descriptors."""
    CONTROL = 20
    """vuctl to daemon, daemon to worker: a request in JSON."""
    REPLY = 21
    SPARE = 22
    """Daemon to zygote: fork a worker; with the worker's end of its socket to the daemon."""
    FORKED = 23
    """Zygote to daemon: pid and session of the worker just forked."""
    ENDED = 24
    """Zygote to daemon: pid and wait status."""
    HANDOFF = 25
    """Daemon to spare: a launcher's RUN, with its connection before its descriptors."""
    HELPER = 26
    """Worker to zygote: fork the process that mounts for this session, with its end of a socket."""


class SetupFlag(enum.IntFlag):
    LANDLOCK = 1
    KEEP_TREE = 2
    CWD = 4
    CHDIR = 8
    """The command memfd begins with "cwd" and the path to go to once the filter is in place."""
    NO_CORES = 16
    """The soft limit of core files is 0."""


SETUP = struct.Struct("=IIQ")
"""flags, number of instructions, tag"""
FAIL = struct.Struct("=I")
PAIR = struct.Struct("=II")
"""LISTENER: child, keeper. EXITED: pid, wait status."""
STATE = struct.Struct("=I")
"""ENTER: of the process by whose number the view is meant."""
BIRTH = struct.Struct("=QI")
"""FORKED: session, pid."""
SESSION = struct.Struct("=Q")
"""HELPER: its number."""


class ProtocolError(Exception):
    """The other end does not speak this protocol."""


class VersionError(ProtocolError):
    def __init__(self, version: int) -> None:
        super().__init__(f"protocol {version}, not {VERSION}")
        self.version = version


class Message(NamedTuple):
    type: int
    payload: bytes
    fds: tuple[int, ...]

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


def send(
    sock: socket.socket, type: int, payload: bytes = b"", fds: Sequence[int] = (), *, flags: int = 0
) -> None:
    header = HEADER.pack(MAGIC, VERSION, type, len(payload))
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([header, payload], ancillary, socket.MSG_NOSIGNAL | flags)


def receive(sock: socket.socket, *, flags: int = 0) -> Message | None:
    """The next message, or None when the other end has gone. Its descriptors are the caller's to close."""
    try:
        data, ancillary, got, _ = sock.recvmsg(
            HEADER.size + LARGEST, _FDS_SPACE, socket.MSG_CMSG_CLOEXEC | flags
        )
    except ConnectionResetError:
        return None
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if not data and not fds:
        return None
    try:
        if len(data) < HEADER.size:
            raise ProtocolError("too short")
        magic, version, type, length = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise ProtocolError("not a message of vuosd")
        if version != VERSION:
            raise VersionError(version)
        if got & socket.MSG_CTRUNC:
            raise ProtocolError("its descriptors did not arrive: too many are open here")
        if length != len(data) - HEADER.size or got & socket.MSG_TRUNC:
            raise ProtocolError("its length is wrong")
    except ProtocolError:
        for fd in fds:
            os.close(fd)
        raise
    return Message(type, data[HEADER.size :], tuple(fds))


def send_large(sock: socket.socket, type: int, payload: bytes, *, flags: int = 0) -> None:
    """The payload by a memfd when a packet cannot hold it; read it with `large`."""
    if len(payload) <= LARGEST:
        send(sock, type, payload, flags=flags)
        return
    fd = memfd("reply", payload)
    try:
        send(sock, type, b"", [fd], flags=flags)
    finally:
        os.close(fd)


def large(message: Message) -> bytes:
    """The payload that `send_large` sent; closes the message's descriptors."""
    try:
        if message.payload or not message.fds:
            return message.payload
        return os.pread(message.fds[0], os.fstat(message.fds[0]).st_size, 0)
    finally:
        message.close()


def send_failure(sock: socket.socket, text: str, status: int = 125) -> None:
    """Tell the launcher what to print before it exits; nothing to do if it has gone."""
    data = (text.rstrip("\n") + "\n").encode("utf-8", "replace")
    if len(data) > LONGEST_TEXT:
        data = data[:LONGEST_TEXT].decode("utf-8", "ignore").encode() + "…\n".encode()
    try:
        send(sock, Type.FAIL, FAIL.pack(status) + data)
    except OSError:
        pass


def version_failure(version: int) -> str:
    spoken = f"vuosd speaks protocol {VERSION}, vuos-run {version}"
    return f"{spoken}: they are of different versions; run `vuctl stop`"


def memfd(name: str, content: bytes) -> int:
    """A memfd with this content."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
    except BaseException:
        os.close(fd)
        raise
    return fd
