"""What this process may do to the real tree, asked before anything is done."""

import errno
import os
import stat

from vuosd.layers import kernel
from vuosd.layers.attributes import Attributes
from vuosd.layers.beneath import Beneath

_XATTR_CAPABILITIES = {"security.capability": kernel.CAP_SETFCAP}


class Permitted:
    """Of one real tree. `opened`: one's own directories that must be made writable first, and their modes."""

    def __init__(self, root: Beneath) -> None:
        self._root = root
        self._euid = os.geteuid()
        self._groups = {os.getegid(), *os.getgroups()}
        self._capable: dict[int, bool] = {}
        self._directories: dict[bytes, str | None] = {}
        self.opened: dict[bytes, int] = {}

    def capable(self, capability: int) -> bool:
        if capability not in self._capable:
            self._capable[capability] = kernel.capable(capability)
        return self._capable[capability]

    def owns(self, st: os.stat_result) -> bool:
        return st.st_uid == self._euid or self.capable(kernel.CAP_FOWNER)

    def entries(self, directory: bytes) -> str | None:
        """Why names in the directory may not be changed, or None. OSError."""
        if directory not in self._directories:
            self._directories[directory] = self._entries(directory)
        return self._directories[directory]

    def _entries(self, directory: bytes) -> str | None:
        fd = self._root.directory(directory)
        try:
            if os.access(b".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
                return None
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            return "the file system is read-only"
        st = os.fstat(fd)
        if self.owns(st) and st.st_mode & 0o300 != 0o300:
            self.opened[directory] = stat.S_IMODE(st.st_mode)
            return None
        return "its directory may not be written"

    def replace(self, directory: bytes, now: os.stat_result | None) -> str | None:
        """Why what is `now` there may not be replaced or removed, or None. OSError."""
        if (reason := self.entries(directory)) is not None or now is None:
            return reason
        st = os.fstat(self._root.directory(directory))
        if st.st_mode & stat.S_ISVTX and not self.owns(st) and not self.owns(now):
            return "it is another user's, in a sticky directory"
        return None

    def make(self, mode: int) -> str | None:
        """Why an object of this type may not be made, or None."""
        if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not self.capable(kernel.CAP_MKNOD):
            return "devices may not be made"
        return None

    def give(self, now: os.stat_result | None, wanted: Attributes) -> str | None:
        """Why it may not get these attributes, or None. `now` is None for what is made anew."""
        for name in wanted.xattrs or ():
            needed = _XATTR_CAPABILITIES.get(name)
            if needed is None and name.startswith("trusted."):
                needed = kernel.CAP_SYS_ADMIN
            if needed is not None and not self.capable(needed):
                return f"the attribute {name} may not be set"
        if now is None:
            return None
        if not self.owns(now):
            return "it is another user's"
        if wanted.owner is not None and not self.owner(now, wanted.owner):
            return "its owner may not be changed"
        return None

    def owner(self, now: os.stat_result | None, owner: tuple[int, int]) -> bool:
        """Whether something can be made to belong to `owner`."""
        if now is not None and (now.st_uid, now.st_gid) == owner:
            return True
        return self.capable(kernel.CAP_CHOWN) or (owner[0] == self._euid and owner[1] in self._groups)
