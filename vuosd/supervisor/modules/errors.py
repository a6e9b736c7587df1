"""How loading and unloading fail: an errno for a program that asks, a sentence for the person."""

from vuosd.supervisor.mounting.errors import MountError


class ModuleError(MountError):
    """ENOENT: there is no such module. EEXIST: it is loaded. EBUSY: it is in use, or permanent. EINVAL,
    ENOEXEC, ENODEV: it cannot be loaded.
    """
