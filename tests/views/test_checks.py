"""What only the machine can tell: missing sources, a hidden command."""

from vuosd.views import (
    Kind,
    Layering,
    View,
    available,
    flatten,
    hidden_command,
    hidden_cwd,
    load,
    misplaced_stores,
    missing_sources,
)


def view(text: str) -> View:
    return load(b"v.toml", env={"HOME": "/home/u"}, cwd=b"/tmp/tree", read=lambda path: text.encode())


def exists(path: bytes) -> bool:
    return path in (b"/", b"/a", b"/a/b", b"/bin/sh", b"/tmp/tree", b"/root/bin/sh", b"/root", b"/dev")


BINDS = """\
[[mount]]
type = "bind"
target = ["/x", "/y"]
source = "/nope"
[[mount]]
type = "bind"
target = ["/a", "/b"]
[[mount]]
type = "bind"
target = ["/c"]
optional = true
[[mount]]
type = "hide"
target = "/not/there/either"
"""


def test_missing_sources() -> None:
    first, second, third = missing_sources(view(BINDS), exists)
    assert first == second
    assert str(first) == (
        'v.toml:4:10: source "/nope" does not exist\n'
        '  source = "/nope"\n'
        "           ^^^^^^^   optional = true leaves such an entry out"
    )
    assert str(third).startswith('v.toml:7:17: source "/b" does not exist\n')


def test_optional_entries_without_a_source_are_left_out() -> None:
    full = view(BINDS)
    assert [entry.target for entry in full.entries if entry not in available(full, exists).entries] == [b"/c"]


def test_read_only_needs_something_there() -> None:
    text = """\
[[mount]]
type = "hide"
target = "/h"
[[mount]]
type = "tmpfs"
target = "/tmp"
[[mount]]
type = "bind"
target = "/s"
source = "/a"
[[mount]]
type = "ro"
target = ["/h/x", "/tmp/x", "/s/b", "/s/c", "/tmp", "/", "/dev"]
"""
    assert [str(error).split("\n")[0] for error in missing_sources(view(text), exists)] == [
        'v.toml:13:11: "/h/x" is hidden by the entry in line 3',
        'v.toml:13:19: "/tmp/x" lies in the empty tmpfs of line 6',
        'v.toml:13:37: "/a/c" does not exist',
    ]


def test_optional_ro_is_left_out() -> None:
    got = available(view('[[mount]]\ntype="ro"\ntarget=["/a", "/nope"]\noptional=true'), exists)
    assert [entry.target for entry in got.entries] == [b"/a"]
    assert missing_sources(got, exists) == []


def test_a_hidden_command() -> None:
    (error,) = hidden_command(view('[[mount]]\ntype = "hide"\ntarget = ["/x", "/bin"]'), b"/bin/sh", exists)
    assert str(error) == (
        'v.toml:3:17: this hides the command itself, "/bin/sh"\n'
        '  target = ["/x", "/bin"]\n'
        "                  ^^^^^^"
    )
    (error,) = hidden_command(view('[[mount]]\ntype="tmpfs"\ntarget="/bin"'), b"/bin/sh", exists)
    assert 'the empty tmpfs at "/bin" hides the command itself' in str(error)
    (error,) = hidden_command(view('[[mount]]\ntype="bind"\nsource="/a"\ntarget="/bin"'), b"/bin/sh", exists)
    assert '"/a/sh" does not exist' in str(error)
    root = view('[[mount]]\ntype="root"\nsource="/root"')
    assert hidden_command(root, b"/bin/sh", exists) == []
    assert hidden_command(root, b"/bin/ls", exists) != []
    assert hidden_command(view(""), b"/bin/sh", exists) == []


def test_a_hidden_current_directory() -> None:
    text = '[[mount]]\ntype = "tmpfs"\ntarget = "/tmp"\n'
    (error,) = hidden_cwd(view(text), b"/tmp/tree", exists)
    assert "the directory that the command starts in" in str(error)
    assert hidden_cwd(view(text + '[[mount]]\ntype="bind"\ntarget="."'), b"/tmp/tree", exists) == []
    assert hidden_cwd(view(text), b"/tmp", exists) == []


def test_a_missing_source_that_is_covered_later_is_an_error_all_the_same() -> None:
    got = view('[[mount]]\ntype="bind"\ntarget="/a"\nsource="/nope"\n[[mount]]\ntype="hide"\ntarget="/a"')
    assert len(missing_sources(got, exists)) == 1
    assert len(flatten(got.entries)) == 1


def test_a_cow_needs_something_to_copy_from() -> None:
    text = """\
[[mount]]
type = "hide"
target = "/h"
[[mount]]
type = "tmpfs"
target = "/tmp"
[[mount]]
type = "cow"
target = ["/h/x", "/tmp/x", "/tmp", "/nope", "/a"]
except = ["b"]
[[mount]]
type = "cow"
target = "/c"
source = "/gone"
[[mount]]
type = "merge"
target = "/m"
source = ["/a", "/gone"]
"""
    assert [str(error).split("\n")[0] for error in missing_sources(view(text), exists)] == [
        'v.toml:14:10: source "/gone" does not exist',
        'v.toml:18:17: source "/gone" does not exist',
        'v.toml:9:11: "/h/x" is hidden by the entry in line 3',
        'v.toml:9:19: "/tmp/x" lies in the empty tmpfs of line 6',
        'v.toml:9:29: "/tmp" is the tmpfs of line 6, which does not outlive the session',
        'v.toml:9:37: "/nope" does not exist',
        'v.toml:10:11: "/nope/b" does not exist',
    ]


def test_an_ephemeral_cow_may_lie_over_a_tmpfs() -> None:
    text = """\
[[mount]]
type = "tmpfs"
target = "/tmp"
mode = "0700"
[[mount]]
type = "cow"
target = "/tmp"
ephemeral = true
size = "1M"
fsync = "yes"
"""
    assert missing_sources(view(text), exists) == []
    (entry,) = flatten(view(text).entries)
    assert (entry.kind, entry.sources, entry.mode, entry.size) == (Kind.COW, (), 0o700, 1 << 20)
    assert entry.layering == Layering(ephemeral=True, sync=True)


def test_exceptions_are_the_real_paths() -> None:
    got = view('[[mount]]\ntype="mincow"\nsource="/a"\ntarget=["/x", "/y"]\nexcept=["b", "/y/b/../b/c"]')
    assert [(entry.kind.name, entry.target, entry.source) for entry in flatten(got.entries)] == [
        ("COW", b"/x", b"/a"),
        ("COW", b"/y", b"/a"),
        ("BIND", b"/x/b", b"/a/b"),
        ("BIND", b"/y/b", b"/a/b"),
        ("BIND", b"/y/b/c", b"/a/b/c"),
    ]
    assert [str(error).split("\n")[0] for error in missing_sources(got, exists)] == [
        'v.toml:5:14: "/a/b/c" does not exist'
    ]


def test_a_store_in_its_own_tree() -> None:
    text = '[[mount]]\ntype="cow"\ntarget="/a"\nstore="%s"\n'
    (error,) = misplaced_stores(view(text % "/a/layers"), lambda path: path)
    assert str(error) == (
        'v.toml:4:7: the store "/a/layers" lies in "/a", the tree itself\n'
        '  store="/a/layers"\n'
        "        ^^^^^^^^^^^   leave store out, or name a directory outside of the tree"
    )
    assert misplaced_stores(view(text % "/ab"), lambda path: path) == []
    assert misplaced_stores(view(text % "/link"), {b"/link": b"/a/b", b"/a": b"/a"}.__getitem__)


def test_what_a_layer_may_have_is_not_hidden() -> None:
    got = view('[[mount]]\ntype="cow"\nsource="/a"\ntarget="/bin"')
    assert hidden_command(got, b"/bin/sh", exists) == []


def test_an_optional_cow_is_left_out_with_its_exceptions() -> None:
    got = available(
        view('[[mount]]\ntype="cow"\ntarget=["/a", "/nope"]\noptional=true\nexcept=["b", "c"]'), exists
    )
    assert [(entry.kind.name, entry.target) for entry in flatten(got.entries)] == [
        ("COW", b"/a"),
        ("BIND", b"/a/b"),
    ]
    assert missing_sources(got, exists) == []
