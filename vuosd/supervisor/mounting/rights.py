"""Who may change what is mounted: the user to whom the view belongs, where mount(2) asks for CAP_SYS_ADMIN. A
member of root's view that has given up root would else show root's processes what it likes, and get root's
rights by a plugin of its own. As fusermount3(1) does it, whoever owns a directory may mount a FUSE server of
his own there, and unmount that.
"""

import errno
import os

from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mount import Mount
from vuosd.supervisor.values import Asked


def user_of(asked: Asked) -> int:
    """The caller's user id: the effective one, or that for files where the two differ; OSError."""
    with open(f"/proc/{asked.tid}/status", "rb") as file:
        _, _, euid, _, fsuid = next(line for line in file if line.startswith(b"Uid:")).split()
    return int(euid) or int(fsuid)


def check_user(asked: Asked) -> None:
    """MountError (EPERM) unless the view is the caller's own."""
    if (user := user_of(asked)) != os.geteuid():
        text = f"only user {os.geteuid()}, to whom the view belongs, may do that, and not user {user}"
        raise MountError(errno.EPERM, text)


def check_directory(asked: Asked, owner: int, target: bytes) -> None:
    """The same of a server of the caller's own at a place that is `owner`'s."""
    if (user := user_of(asked)) not in (os.geteuid(), owner):
        text = f"{os.fsdecode(target)} belongs to user {owner}, and user {user} may mount nothing there"
        raise MountError(errno.EPERM, text)


def check_mount(asked: Asked, mount: Mount | None) -> None:
    """The same of a mount that is to go."""
    if mount is None or mount.user is None or user_of(asked) != mount.user:
        check_user(asked)
