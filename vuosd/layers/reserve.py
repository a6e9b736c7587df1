"""Directories of trees that are made before the layers which they become those of: a Landlock rule is of a
directory that is there (floor.py), and stays with it wherever it is renamed to.
"""

import os
from collections.abc import Mapping

from vuosd.layers import lock, places
from vuosd.layers.errors import LayerError, name_of, reason
from vuosd.layers.remove import remove_tree


class Reserve:
    """So many, in the user's own store, which takes what is left of them for rubbish when nobody holds its
    lock.
    """

    def __init__(self, number: int, env: Mapping[str, str]) -> None:
        """LayerError."""
        self.store = places.store_of(env)
        places.make_store(self.store)
        self._path = os.path.join(self.store, b".%d.reserve-%s" % (os.getpid(), os.urandom(6).hex().encode()))
        self._lock = -1
        try:
            os.mkdir(self._path, 0o700)
            self._lock = lock.take(self._path)
            self._left = [os.path.join(self._path, b"%d" % n) for n in range(number)]
            for path in self._left:
                make_tree(path)
            self.uppers = tuple(os.path.join(path, b"upper") for path in self._left)
            self._known = {_identity(path) for path in self.uppers}
        except OSError as error:
            self.close()
            text = f"cannot make room for layers in {name_of(self.store)}: {reason(error)}"
            raise LayerError(text) from None
        except BaseException:
            self.close()
            raise

    def take(self, directory: bytes) -> None:
        """One of them becomes that directory of a layer. LayerError, OSError."""
        if not self._left:
            text = f"all {len(self._known)} layers are used that an enforcing view has room for"
            raise LayerError(f"{text} while it runs: name the cow in its profile")
        os.rename(self._left[0], directory)
        del self._left[0]

    def has_made(self, path: bytes) -> bool:
        """Whether the layer at a path is of a tree that was taken."""
        try:
            return _identity(os.path.join(path, b"0", b"upper")) in self._known
        except OSError:
            return False

    def close(self) -> None:
        """What was not used goes."""
        try:
            remove_tree(self._path)
        except OSError:
            pass  # the store's next layer tries again
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def make_tree(directory: bytes) -> None:
    """What a tree consists of. OSError; LayerError: its file system cannot hold one."""
    upper = os.path.join(directory, b"upper")
    os.mkdir(directory, 0o700)
    os.mkdir(upper, 0o700)
    os.mkdir(os.path.join(directory, b"work"), 0o700)
    places.check_file_system(upper)


def _identity(path: bytes) -> tuple[int, int]:
    st = os.stat(path)
    return st.st_dev, st.st_ino
