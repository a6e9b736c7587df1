"""archive: what tar, gzip, bzip2, xz, zstd, zip make, looked at through the kernel and without it."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from vuosd.plugins.archive import Archive
from vuosd.testing import FilesystemConformance, serving, transports

BIG = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tree in it, and archives of that tree."""
    place = tmp_path_factory.mktemp("archives")
    tree = place / "tree"
    (tree / "directory/deeper").mkdir(parents=True)
    (tree / "hello").write_bytes(b"hello\n")
    (tree / "directory/big").write_bytes(BIG)
    (tree / "directory/deeper/secret").write_bytes(b"for the owner")
    (tree / "directory/deeper/secret").chmod(0o200)
    (tree / "link").symlink_to("directory/big")
    (tree / "linked").hardlink_to(tree / "hello")
    (tree / "naïve name").write_bytes(b"")
    with zipfile.ZipFile(tree / "inner.zip", "w") as inner:
        inner.writestr("in/the/middle", "of it")
    for suffix, compress in (("tar", []), ("tar.gz", ["-z"]), ("tar.bz2", ["-j"]), ("tar.xz", ["-J"])):
        subprocess.run(["tar", "-c", *compress, "-f", place / f"x.{suffix}", "-C", tree, "."], check=True)
    with zipfile.ZipFile(place / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (
            "hello",
            "directory/big",
            "directory/deeper/secret",
            "linked",
            "naïve name",
            "inner.zip",
        ):
            archive.write(tree / path, path)
    return place


class TestArchive(FilesystemConformance):
    place_of_archives: Path

    @pytest.fixture(autouse=True)
    def _archives(self, made: Path) -> None:
        type(self).place_of_archives = made

    @classmethod
    def made(cls) -> Archive:
        return Archive(str(cls.place_of_archives / "x.tar"))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_contents(made: Path, suffix: str) -> None:
    with serving(Archive(str(made / f"x.{suffix}"))) as served:
        place = served.place
        assert place.read("/hello") == place.read("/linked") == b"hello\n"
        assert place.read("/directory/big") == BIG
        assert place.read("/directory/deeper/secret") == b"for the owner"
        assert place.lstat("/directory/deeper/secret").mode & 0o777 == 0o600
        if suffix != "zip":
            assert place.readlink("/link") == "directory/big"
        assert "naïve name" in place.names("/")
        assert served.log() == ""


@pytest.mark.parametrize("transport", transports())
def test_nested(made: Path, transport) -> None:
    with serving(Archive(str(made / "x.tar.gz"), "nested"), transport) as served:
        assert served.place.names("/inner.zip/in/the") == ["middle"]
        assert served.place.read("/inner.zip/in/the/middle") == b"of it"
        assert served.place.read("/directory/big") == BIG
        assert served.log() == ""


def test_not_an_archive(made: Path) -> None:
    (made / "nonsense").write_bytes(b"nonsense" * 1000)
    for source, said in (
        ("nonsense", "as an archive"),
        ("missing", "No such file"),
        ("tree", "Is a directory"),
    ):
        with pytest.raises((ValueError, OSError), match=said):
            Archive(str(made / source)).start()
