"""`vuctl reload` of file systems: a plugin's code has been changed."""

import errno
import os

import trio

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import users
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mounts import Mounts


async def reload(mounts: Mounts, name: str) -> list[str]:
    """Where file systems of this type, whose code is a plugin's, have been mounted anew. MountError:
    EBUSY, with by what one is used; what is wrong with the code. Then the others stay as they were.

    The old server ends before the new one starts: both may have the same file to write to.
    """
    found = [mount for mount in mounts.all() if mount.mark and mount.kind and mount.kind.has_name(name)]
    for mount in found:
        assert mount.kind is not None
        assert mount.wanted is not None
        if not mount.module:  # else that says what is mounted
            await trio.to_thread.run_sync(mount.kind.check_code, mount.wanted.path, mount.wanted.data)
        if mounts.at(mount.target) is not mount:
            raise MountError(errno.EBUSY, f"{mount.place} is in use: something is mounted over it")
        if other := next((one for one in mounts.family.each() if one is not mount and one.same(mount)), None):
            raise MountError(errno.EBUSY, f"{mount.place} is in use: it is shown at {other.place} too")
        if using := await mounts.users_of(mount):
            raise MountError(errno.EBUSY, f"{mount.place} is in use: {users.listed(using)}")
    for mount in found:
        assert mount.wanted is not None
        wanted = mount.wanted._replace(fds={at: os.dup(fd) for at, fd in mount.wanted.fds.items()})
        try:
            await mounts.unmount(mount.target, 0)
            await mounts.mount(wanted)
        except MountError as error:
            if mounts.at(mount.target) is not mount:
                text = f"{mount.place} is not mounted any more: {error}"
                raise MountError(error.errno, text) from None
            raise
        finally:
            for fd in wanted.fds.values():
                os.close(fd)
        log.info("%s is reloaded", mount.place)
    return [mount.place for mount in found]
