"""fs.protected_symlinks for links that the engine follows: may_follow_link in fs/namei.c. The sysctl itself
is the machine's, and stays as it is."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import View, bind, directory, run

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's links"),
]

OWNER, READER, OTHER = 65533, 65534, 65532


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    real = root / "real"
    for name, mode in (("sticky", 0o1777), ("open", 0o777), ("closed", 0o1755)):
        (real / name).mkdir(parents=True)
        (real / name).chmod(mode)
        os.chown(real / name, OWNER, OWNER)
        for link, user in (("other", OTHER), ("reader", READER), ("owner", OWNER)):
            (real / name / link).symlink_to("../file")
            os.lchown(real / name / link, user, user)
        (real / name / "directory").symlink_to("..")
        os.lchown(real / name / "directory", OTHER, OTHER)
    (real / "file").write_text("text")
    (real / "way").symlink_to("sticky/other")
    yield root
    shutil.rmtree(root)


def told(call: Callable[..., object], *arguments: object) -> int:
    """0, or the errno."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno or -1
    return 0


def reads(path: Path) -> int:
    return told(path.read_text)


@pytest.mark.parametrize("enforce", [False, True])
@pytest.mark.parametrize("user", [READER, None], ids=["user", "root"])
def test_protected(tree: Path, enforce: bool, user: int | None) -> None:
    top = tree / "v"

    def body() -> None:
        mine = "reader" if user else "none"
        for name in ("other", "reader"):
            refused = name != mine
            assert reads(top / "sticky" / name) == (errno.EACCES if refused else 0), name
            assert told(os.stat, top / "sticky" / name) == (errno.EACCES if refused else 0), name
            flags = os.O_WRONLY | os.O_CREAT if user is None else os.O_RDONLY | os.O_CREAT
            assert told(os.open, top / "sticky" / name, flags) == (errno.EACCES if refused else 0), name
        assert told(os.stat, f"{top}/sticky/directory/") == errno.EACCES
        assert reads(top / "way") == errno.EACCES  # what a last link leads to is last as well
        # Of the directory's owner; not the path's last; looked at, not followed; in another directory.
        assert reads(top / "sticky" / "owner") == 0
        assert reads(top / "sticky" / "directory" / "file") == 0
        assert os.readlink(top / "sticky" / "other") == "../file"
        for name in ("open", "closed"):
            assert reads(top / name / "other") == 0, name

    run(body, View([bind(top, tree / "real")], enforce=enforce, user=user, protected_links=True))


def test_not_protected(tree: Path) -> None:
    def body() -> None:
        assert reads(tree / "v" / "sticky" / "other") == 0
        assert reads(tree / "v" / "way") == 0

    run(body, View([bind(tree / "v", tree / "real")], user=READER))
