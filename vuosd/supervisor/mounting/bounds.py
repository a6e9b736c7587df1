"""A server that runs outside of the view is kept within bounds: it reaches what it needs, whoever takes it
over.

The worker says which those are (reach.py); the server's process puts them on itself, before the first
instruction that is not ours: a Landlock domain, a seccomp filter, no privileges. A millisecond in all, and
the same for a program that is executed and for a file system in Python that is forked.
"""

import ctypes
import os
import struct
from typing import NamedTuple

from vuosd.abi import bounds, landlock
from vuosd.supervisor.mounting.libc import call

_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SECCOMP, _SECCOMP_SET_MODE_FILTER = 317, 1
_CAPABILITY_VERSION_3 = 0x20080522
_KEPT = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 31
"""Of root: CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, SETFCAP. What belongs to
others can be served, and nothing else of root's can be done."""


class Bounds(NamedTuple):
    """ruleset: Landlock's; -1 where the kernel has none
    network, attributes: as vuosd.abi.bounds.program has them
    agent: the path of a socket that it may connect to, or ""
    """

    ruleset: int
    network: bool
    attributes: bool
    agent: str = ""


def prepare(given: Bounds) -> None:
    """What can be done once, before the process is forked that enters."""
    _code(given)


def _code(given: Bounds) -> bytes:
    return bounds.program(network=given.network, attributes=given.attributes, agent=bool(given.agent))


def enter(given: Bounds) -> None:
    """For good, this process and what it will start. OSError."""
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _give_up_capabilities(_KEPT if os.geteuid() == 0 else 0)
    if given.ruleset >= 0:
        call("syscall", landlock.RESTRICT_SELF, given.ruleset, 0)
    code = _code(given)
    program = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(program))
    call("syscall", _SECCOMP, _SECCOMP_SET_MODE_FILTER, 0, header)


def _give_up_capabilities(kept: int) -> None:
    """With no_new_privs none comes back at execve(2), not even to root: cap_bprm_creds_from_file()."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the low 32, then the high
    call("capget", header, held)
    permitted = held[1] & kept
    held[0] = held[1] = held[2] = permitted
    held[3] = held[4] = held[5] = 0
    call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    call("capset", header, held)
