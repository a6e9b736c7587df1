"""Words and flags of mount(2), as mount(8) and VUOS's vumount know them. No I/O."""

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS = 1, 2, 4, 8, 16
MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC, MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME = 32, 64, 128, 256, 1024, 2048
MS_BIND, MS_MOVE, MS_REC, MS_SILENT, MS_POSIXACL = 4096, 8192, 16384, 32768, 1 << 16
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_I_VERSION, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 23, 1 << 24, 1 << 25
MS_MAGIC, MS_MAGIC_MASK = 0xC0ED0000, 0xFFFF0000

PROPAGATION = MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED
KEPT = (
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOSYMFOLLOW | MS_NOATIME
    | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME | MS_LAZYTIME
)  # fmt: skip
"""What a mount has, rather than what is to be done with it."""

FLAGS: dict[str, tuple[int, int]] = {
    "ro": (MS_RDONLY, 0), "rw": (0, MS_RDONLY),
    "nosuid": (MS_NOSUID, 0), "suid": (0, MS_NOSUID),
    "nodev": (MS_NODEV, 0), "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0), "exec": (0, MS_NOEXEC),
    "sync": (MS_SYNCHRONOUS, 0), "async": (0, MS_SYNCHRONOUS),
    "dirsync": (MS_DIRSYNC, 0),
    "nosymfollow": (MS_NOSYMFOLLOW, 0), "symfollow": (0, MS_NOSYMFOLLOW),
    "noatime": (MS_NOATIME, 0), "atime": (0, MS_NOATIME),
    "nodiratime": (MS_NODIRATIME, 0), "diratime": (0, MS_NODIRATIME),
    "relatime": (MS_RELATIME, 0), "norelatime": (0, MS_RELATIME),
    "strictatime": (MS_STRICTATIME, 0), "nostrictatime": (0, MS_STRICTATIME),
    "lazytime": (MS_LAZYTIME, 0), "nolazytime": (0, MS_LAZYTIME),
    "mand": (MS_MANDLOCK, 0), "nomand": (0, MS_MANDLOCK),
    "acl": (MS_POSIXACL, 0), "noacl": (0, MS_POSIXACL),
    "iversion": (MS_I_VERSION, 0), "noiversion": (0, MS_I_VERSION),
    "silent": (MS_SILENT, 0), "loud": (0, MS_SILENT),
    "remount": (MS_REMOUNT, 0), "bind": (MS_BIND, 0), "rbind": (MS_BIND | MS_REC, 0), "move": (MS_MOVE, 0),
    "defaults": (0, 0), "user": (MS_NOSUID | MS_NODEV | MS_NOEXEC, 0),
    "group": (MS_NOSUID | MS_NODEV, 0), "nouser": (0, 0), "auto": (0, 0), "noauto": (0, 0), "_netdev": (0, 0),
}  # fmt: skip
"""Word: flags that it sets, flags that it clears."""

_SHOWN = (
    (MS_NOSUID, "nosuid"), (MS_NODEV, "nodev"), (MS_NOEXEC, "noexec"), (MS_SYNCHRONOUS, "sync"),
    (MS_DIRSYNC, "dirsync"), (MS_NOSYMFOLLOW, "nosymfollow"), (MS_NOATIME, "noatime"),
    (MS_NODIRATIME, "nodiratime"), (MS_LAZYTIME, "lazytime"),
)  # fmt: skip
_NOT_SHOWN = ("fd=", "rootmode=")


def split(text: str) -> list[str]:
    """The words of "a,b=c,d"; a comma after a backslash belongs to the word."""
    words, word, escaped = [], "", False
    for character in text:
        if character == "," and not escaped:
            words.append(word)
            word = ""
        else:
            word += character
        escaped = character == "\\" and not escaped
    return [word for word in (*words, word) if word]


def parse(words: list[str], flags: int = 0) -> tuple[int, list[str]]:
    """The flags that words mean, and the words that are the file system's own."""
    rest = []
    for word in words:
        if word in FLAGS:
            on, off = FLAGS[word]
            flags = flags & ~off | on
        else:
            rest.append(word)
    return flags, rest


def words(flags: int) -> list[str]:
    """ "ro" or "rw", and the other words for flags."""
    return ["ro" if flags & MS_RDONLY else "rw", *(word for flag, word in _SHOWN if flags & flag)]


def shown(flags: int, data: str) -> str:
    """As /proc/self/mounts tells them; of a FUSE mount's data without what is of no use to anybody
    else.
    """
    own = [word for word in split(data) if not word.startswith(_NOT_SHOWN) and word not in FLAGS]
    return ",".join(words(flags) + own)


def plain(flags: int) -> int:
    """Without the magic number of old programs."""
    return flags & ~MS_MAGIC_MASK if flags & MS_MAGIC_MASK == MS_MAGIC else flags
