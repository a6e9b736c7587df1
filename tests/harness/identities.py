"""Who runs a test: root and an unprivileged user when the tests run as root, else whoever runs them.

The user is made once and kept: a test user in the password file is what a developer machine has anyway, and
making one takes longer
than most tests.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass

NAME = "vuostest"


@dataclass(frozen=True)
class Identity:
    name: str
    uid: int
    gid: int

    @property
    def is_us(self) -> bool:
        return self.uid == os.geteuid()

    @property
    def wrapper(self) -> list[str]:
        """Arguments of confine(1) that make a process of this identity."""
        return [] if self.is_us else [f"user={self.uid}:{self.gid}"]


def me() -> Identity:
    return Identity("root" if os.geteuid() == 0 else "me", os.geteuid(), os.getegid())


def unprivileged() -> Identity:
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        subprocess.run(
            [
                "useradd",
                "--system",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/bin/sh",
                NAME,
            ],
            check=True,
            capture_output=True,
        )
        entry = pwd.getpwnam(NAME)
    return Identity("user", entry.pw_uid, entry.pw_gid)


def names() -> list[str]:
    """For parametrisation, which must not make a user."""
    return ["root", "user"] if os.geteuid() == 0 else ["me"]


def get(name: str) -> Identity:
    return unprivileged() if name == "user" else me()
