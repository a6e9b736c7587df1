"""File systems in a profile: what such entries become, and what is said about mistakes in them."""

from collections.abc import Collection
from textwrap import dedent

import pytest

from vuosd.views import (
    Entry,
    Kind,
    ProfileErrors,
    Served,
    View,
    covered,
    flatten,
    hidden_command,
    hidden_cwd,
    load,
    missing_sources,
)

TYPES = ("ext4", "memory", "vufusefatfs")


def view(text: str, types: Collection[str] = TYPES) -> View:
    env = {"HOME": "/home/u", "DISK": "disk.img"}
    content = dedent(text).encode()
    return load(b"conf/v.toml", env=env, cwd=b"/work", read=lambda path: content, types=lambda: types)


def said(text: str) -> str:
    with pytest.raises(ProfileErrors) as caught:
        view(text)
    return str(caught.value)


def test_what_is_mounted_where() -> None:
    got = view("""\
        [[mount]]
        type = "ext4"
        source = "$DISK"
        target = ["/mnt/", "sub"]
        options = "ro,offset=1M"
        [[mount]]
        type = "memory"
        target = "~/m"
        [[mount]]
        type = "./own.py:Class"
        source = "host:/dir"
        target = "/own"
        [[mount]]
        type = "fuse.bindfs"
        source = "/usr"
        target = "/usr2"
        """)
    image = Served("ext4", "disk.img", b"/work/conf/disk.img", "ro,offset=1M")
    assert [(entry.kind, entry.target, entry.served) for entry in got.entries] == [
        (Kind.FILESYSTEM, b"/mnt", image),
        (Kind.FILESYSTEM, b"/work/sub", image),
        (Kind.FILESYSTEM, b"/home/u/m", Served("memory", "", b"", "")),
        (
            Kind.FILESYSTEM,
            b"/own",
            Served("/work/conf/own.py:Class", "host:/dir", b"/work/conf/host:/dir", ""),
        ),
        (Kind.FILESYSTEM, b"/usr2", Served("fuse.bindfs", "/usr", b"/usr", "")),
    ]
    assert all(entry.sources == () for entry in got.entries)


def test_the_types_are_asked_for_only_when_one_is_none_of_ours() -> None:
    def types() -> Collection[str]:
        raise AssertionError("asked")

    text = b"[[mount]]\ntype = 'hide'\ntarget = '/x'\n"
    assert load(b"v.toml", env={}, cwd=b"/", read=lambda path: text, types=types).entries


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            """\
            [[mount]]
            type = "ext5"
            target = "/mnt"
            """,
            'conf/v.toml:2:8: unknown type "ext5"\n  type = "ext5"\n         ^^^^^^   did you mean "ext4"?',
        ),
        (
            """\
            [[mount]]
            type = "ext4"
            target = "/mnt"
            option = "ro"
            """,
            'conf/v.toml:4:1: unknown key "option"\n  option = "ro"\n  ^^^^^^   did you mean "options"?',
        ),
        (
            """\
            [[mount]]
            type = "ext4"
            source = "x"
            """,
            'conf/v.toml:1:1: "target" is missing\n  [[mount]]\n  ^^^^^^^^^',
        ),
        (
            """\
            [[mount]]
            type = "ext4"
            target = "/mnt"
            options = ["ro"]
            """,
            'conf/v.toml:4:11: expected string, got array\n  options = ["ro"]\n            ^^^^^^',
        ),
        (
            """\
            [[mount]]
            type = "memory"
            target = "/"
            """,
            'conf/v.toml:3:10: "/" cannot be a file system of a server\n  target = "/"\n'
            "           ^^^   mount it below, and start the command outside of it",
        ),
        (
            """\
            [view]
            enforce = true
            [[mount]]
            type = "memory"
            target = "/mnt"
            """,
            "conf/v.toml:5:10: a view with enforce = true can have no file system mounted\n"
            '  target = "/mnt"\n           ^^^^^^   what its server shows is beyond the kernel\'s Landlock',
        ),
    ],
)
def test_mistakes(text: str, wanted: str) -> None:
    assert said(text) == wanted


def test_all_mistakes_are_told_at_their_places_beside_file_systems() -> None:
    lines = said("""\
        [[mount]]
        type = "memory"
        target = "/mnt"
        [[mount]]
        type = "tmpfs"
        target = "/tmp"
        sise = 3
        [[mount]]
        type = "memory"
        target = []
        """).splitlines()
    assert [line for line in lines if line.startswith("conf")] == [
        'conf/v.toml:7:1: unknown key "sise" for type "tmpfs"',
        "conf/v.toml:10:10: this array needs at least one element",
    ]


NESTED = """\
[[mount]]
type = "bind"
target = "/mnt/old"
source = "/usr"
[[mount]]
type = "memory"
target = "/mnt"
[[mount]]
type = "bind"
target = "/mnt/new"
source = "/usr"
[[mount]]
type = "memory"
target = "/gone"
[[mount]]
type = "hide"
target = "/gone"
"""


def test_it_covers_and_is_covered() -> None:
    table = {entry.target: entry for entry in flatten(view(NESTED).entries)}
    assert {target: entry.kind for target, entry in table.items()} == {
        b"/mnt": Kind.FILESYSTEM,
        b"/mnt/new": Kind.BIND,
        b"/gone": Kind.HIDE,
    }


def test_a_later_ro_makes_it_read_only() -> None:
    text = NESTED + '[[mount]]\ntype = "ro"\ntarget = "/"\n'
    assert all(entry.readonly for entry in flatten(view(text).entries) if entry.kind is Kind.FILESYSTEM)


def test_what_lies_in_it_is_not_to_be_had() -> None:
    text = """\
        [[mount]]
        type = "memory"
        target = "/mnt"
        [[mount]]
        type = "cow"
        target = "/mnt"
        except = ["b"]
        [[mount]]
        type = "ro"
        target = "/mnt/a"
        [[mount]]
        type = "memory"
        target = "/m"
        [[mount]]
        type = "ro"
        target = "/m/a"
        """
    assert [str(error).partition("\n")[0] for error in missing_sources(view(text), lambda path: True)] == [
        'conf/v.toml:7:11: "/mnt/b" lies in the file system of line 3',
        'conf/v.toml:10:10: "/mnt/a" lies in the file system of line 3',
        'conf/v.toml:16:10: "/m/a" lies in the file system of line 13',
    ]


UPON = """\
[[mount]]
type = "memory"
target = "/mnt"
[[mount]]
type = "cow"
target = "/mnt/a"
[[mount]]
type = "cow"
target = ["/mnt/a/b", "/mnt"]
"""


def test_a_cow_is_upon_what_is_mounted_there() -> None:
    """Also a cow after another, which the later one covers."""
    entries = flatten(view(UPON).entries)
    assert [(entry.target, entry.kind, entry.sources) for entry in entries] == [(b"/mnt", Kind.COW, ())]
    assert entries[0].upon == view(UPON).entries[0]
    table = {entry.target: entry for entry in flatten(view(UPON).entries[:3])}
    assert {target: entry.kind for target, entry in table.items()} == {
        b"/mnt": Kind.FILESYSTEM,
        b"/mnt/a": Kind.COW,
        b"/mnt/a/b": Kind.COW,
    }
    assert table[b"/mnt/a"].upon == table[b"/mnt/a/b"].upon == table[b"/mnt"]
    assert missing_sources(view(UPON), lambda path: False) == []
    assert hidden_cwd(view(UPON), b"/mnt", lambda path: False) == []
    assert hidden_command(view(UPON), b"/mnt/x", lambda path: False) == []
    (error,) = hidden_cwd(view(UPON), b"/mnt/x", lambda path: True)
    assert 'the file system at "/mnt" is mounted over the directory' in str(error)


def test_command_and_start() -> None:
    mounted = view(NESTED)
    assert hidden_command(mounted, b"/mnt/bin/program", lambda path: False) == []
    (error,) = hidden_cwd(mounted, b"/mnt/dir", lambda path: True)
    assert 'the file system at "/mnt" is mounted over the directory that the command starts in' in str(error)


def test_with_a_cow_from_the_command_line() -> None:
    mounted = View("v", entries=(Entry(Kind.FILESYSTEM, b"/a/mnt"),))
    entries = flatten(covered(mounted, b"/a", lambda path: True).entries)
    assert [(entry.target, entry.kind, entry.readonly) for entry in entries] == [
        (b"/a", Kind.COW, False),
        (b"/a/mnt", Kind.FILESYSTEM, True),
    ]
    *_, cow = flatten(covered(mounted, b"/a/mnt/b", lambda path: True).entries)
    assert (cow.target, cow.kind, cow.sources, cow.upon) == (b"/a/mnt/b", Kind.COW, (), mounted.entries[0])
