"""The one error of this package. No I/O."""


class LayerError(Exception):
    """One sentence for a person: what is wrong, where, and what to do about it."""


def name_of(path: bytes) -> str:
    """A path as messages name it: quoted, safe on a terminal."""
    from vuosd.layers.quoting import quoted

    return f'"{path.decode()}"' if not quoted(path).startswith('"') else quoted(path)


def reason(error: OSError) -> str:
    """What the kernel said, without Python's decoration."""
    return (error.strerror or str(error)).lower()
