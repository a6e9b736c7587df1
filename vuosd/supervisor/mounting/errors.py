"""How mounting fails: an errno for the program that asked, a sentence for the person."""

import os


class MountError(Exception):
    """`errno` is what mount(2) or umount2(2) fails with; the text is one sentence without a full stop."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno


def from_os(error: OSError, what: str = "") -> MountError:
    """The same of a call that failed."""
    number = error.errno or 5
    text = error.strerror or os.strerror(number)
    return MountError(number, f"{what}: {text}" if what else text)
