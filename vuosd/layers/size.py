"""The room that a layer takes on the disk."""

from vuosd.layers.beneath import Beneath, join


def bytes_on_disk(path: bytes) -> int:
    """Of a directory and all below it, each file once; what may not be looked at counts nothing."""
    total = 0
    seen: set[tuple[int, int]] = set()
    with Beneath(path) as root:
        pending = [b""]
        while pending:
            directory = pending.pop()
            try:
                names = root.names(directory)
            except OSError:
                continue
            for name in names:
                st = root.lstat(join(directory, name))
                if st is None or (st.st_nlink > 1 and (st.st_dev, st.st_ino) in seen):
                    continue
                seen.add((st.st_dev, st.st_ino))
                total += st.st_blocks * 512
                if st.st_mode & 0o170000 == 0o040000:
                    pending.append(join(directory, name))
    return total


def human(size: int) -> str:
    """1023 B, 1.5 KiB, 20 MiB."""
    if size < 1024:
        return f"{size} B"
    number = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        number /= 1024
        if number < 1023.5 or unit == "TiB":
            break
    return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"
