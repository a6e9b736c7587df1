"""The second half of a commit: names of the real tree change, one by one. Each step can be done again, so
that what was cut short is completed by doing everything once more.

Nothing is overwritten or removed that is not what was judged: the old object is first moved aside to the
temporary name, in one step with the new one's coming (RENAME_EXCHANGE), looked at there, and moved back if
it is another.
"""

import errno
import os
import stat
from collections.abc import Mapping

from vuosd.layers import kernel
from vuosd.layers.attributes import Attributes, give
from vuosd.layers.beneath import Beneath, parent_of
from vuosd.layers.errors import reason
from vuosd.layers.stage import sync
from vuosd.layers.steps import Action, Seen, Step, TreePlan

_MEANWHILE = "has been changed in the real tree during the commit"


class _Refused(Exception):
    """Why a step is not done."""


def apply(plan: TreePlan, inodes: Mapping[int, int]) -> dict[bytes, str]:
    """All steps; those paths that could not be done, and why. OSError: syncing failed; nothing is lost."""
    failed: dict[bytes, str] = {}
    with Beneath(plan.root) as root:
        for path, mode in plan.opened:
            if root.lstat(path) is not None:
                give(root, path, Attributes(mode=mode | 0o700))
        for number, step in enumerate(plan.steps):
            try:
                _do(root, step, inodes.get(number, 0))
            except _Refused as refused:
                failed.setdefault(step.path, str(refused))
            except OSError as error:
                failed.setdefault(step.path, reason(error))
            if step.action is Action.RMDIR:
                root.forget()
        given = [step.path for step in plan.steps if step.action is Action.GIVE]
        files = [path for path in given if _is_file(root, path)]
        directories = {parent_of(step.path) for step in plan.steps if step.action is not Action.GIVE}
        sync(root, files, [path for path in directories.union(given) if _is_directory(root, path)])
    return failed


def _is_directory(root: Beneath, path: bytes) -> bool:
    st = root.lstat(path)
    return st is not None and stat.S_ISDIR(st.st_mode)


def _is_file(root: Beneath, path: bytes) -> bool:
    st = root.lstat(path)
    return st is not None and stat.S_ISREG(st.st_mode)


def _do(root: Beneath, step: Step, inode: int) -> None:
    match step.action:
        case Action.REMOVE:
            _remove(root, step)
        case Action.RMDIR:
            _rmdir(root, step)
        case Action.MKDIR:
            _mkdir(root, step)
        case Action.PLACE:
            _place(root, step, inode)
        case Action.GIVE:
            _give(root, step)


def _remove(root: Beneath, step: Step) -> None:
    if root.lstat(step.temporary) is None:  # else a try before this one was cut short behind the move
        now = root.lstat(step.path)
        if now is None or stat.S_ISDIR(now.st_mode):
            return  # gone, and a directory has perhaps come in its place
        _must_be(step.before, now)
        _rename(root, step.path, step.temporary, kernel.NOREPLACE)
    _dispose(root, step)


def _dispose(root: Beneath, step: Step) -> None:
    """Of the old object, at the temporary name; back with it if it is another than was judged."""
    fd, name = root.place(step.temporary)
    if step.before is None or not step.before.is_still(root.lstat(step.temporary)):
        flags = kernel.EXCHANGE if root.lstat(step.path) is not None else kernel.NOREPLACE
        _rename(root, step.temporary, step.path, flags)
        raise _Refused(_MEANWHILE)
    os.unlink(name, dir_fd=fd)


def _rmdir(root: Beneath, step: Step) -> None:
    try:
        fd, name = root.place(step.path)
        os.rmdir(name, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):
        return  # gone; a file in its place is what was to come, or _place() will say that it is another
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _Refused("is not empty in the real tree") from None
        raise


def _mkdir(root: Beneath, step: Step) -> None:
    fd, name = root.place(step.path)
    try:
        os.mkdir(name, 0o700, dir_fd=fd)
    except FileExistsError:
        if not _is_directory(root, step.path):
            raise _Refused(_MEANWHILE) from None


def _place(root: Beneath, step: Step, inode: int) -> None:
    ready = root.lstat(step.temporary)
    now = root.lstat(step.path)
    if ready is None:
        if now is None or now.st_ino != inode:
            raise _Refused(_MEANWHILE)
        return  # done by a try before this one
    if ready.st_ino == inode and now is not None and now.st_ino == inode and now.st_dev == ready.st_dev:
        fd, name = root.place(step.temporary)  # both are names of the file that was to come
        os.unlink(name, dir_fd=fd)
        return
    if ready.st_ino == inode:
        if step.before is None:
            if now is not None:
                raise _Refused("has been made in the real tree during the commit")
            _rename(root, step.temporary, step.path, kernel.NOREPLACE)
            return
        _must_be(step.before, now)
        if not _rename(root, step.temporary, step.path, kernel.EXCHANGE):
            return
    _dispose(root, step)


def _must_be(before: Seen | None, now: os.stat_result | None) -> None:
    if before is None or not before.is_still(now):
        raise _Refused(_MEANWHILE)


def _rename(root: Beneath, old: bytes, new: bytes, flags: int) -> bool:
    """With `flags` where the file system knows them; False where it does not: then `old` is gone."""
    old_fd, old_name = root.place(old)
    new_fd, new_name = root.place(new)
    try:
        kernel.renameat2(old_fd, old_name, new_fd, new_name, flags)
        return True
    except FileExistsError:
        raise _Refused(_MEANWHILE) from None
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
    os.rename(old_name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
    return False


def _give(root: Beneath, step: Step) -> None:
    now = root.lstat(step.path)
    if step.give is None:
        return
    if now is None:
        raise _Refused(_MEANWHILE)
    before = step.before
    if before is not None and step.give.times is not None and now.st_mtime_ns == step.give.times[1]:
        # A try before this one may have set the time.
        before = Seen(before.dev, before.ino, before.mode, before.size, now.st_mtime_ns)
    if before is not None and not before.is_still(now):
        raise _Refused(_MEANWHILE)
    if before is None and not stat.S_ISDIR(now.st_mode):
        raise _Refused(_MEANWHILE)
    give(root, step.path, step.give)
