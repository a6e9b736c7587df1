"""Profiles as a user writes them: what they become, and what is said about mistakes."""

from posixpath import join, normpath
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vuosd.views import Entry, EnvRules, Kind, ProfileError, ProfileErrors, View, load

ENV = {"HOME": "/home/u", "USER": "u", "EMPTY": "", "XDG_RUNTIME_DIR": "/run/user/7"}
CWD = b"/work/tree"


def view(text: str, **others: str) -> View:
    """Loads `text` as ci.toml of the current directory; others are files too, two underscores a slash."""
    path = b"ci.toml"
    files = {CWD + b"/" + path: text}
    for name, content in others.items():
        files[join(CWD, name.replace("__", "/").encode())] = content

    def read(name: bytes) -> bytes:
        name = normpath(name)
        if name != CWD + b"/" + path:
            if not name.endswith(b".toml"):
                raise FileNotFoundError(2, "No such file or directory")
            name = name.removesuffix(b".toml") if name.removesuffix(b".toml") in files else name
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return dedent(files[name]).encode("utf-8", "surrogateescape")

    return load(path, env=ENV, cwd=CWD, read=read)


def said(text: str, **others: str) -> str:
    with pytest.raises(ProfileErrors) as caught:
        view(text, **others)
    return str(caught.value)


def entries(text: str, **others: str) -> list[Entry]:
    return list(view(text, **others).entries)


def test_the_whole() -> None:
    got = view("""\
        [view]
        name = "ci-$USER"
        enforce = true
        survive = true
        cwd = "sub/../src"
        [[mount]]
        type = "bind"
        target = "."
        [[mount]]
        type = "bind"
        target = "/srv//x/"
        source = "../data"
        readonly = true
        [[mount]]
        type = "hide"
        target = ["~/.ssh", "$XDG_RUNTIME_DIR/docker.sock", "~"]
        [[mount]]
        type = "tmpfs"
        target = "/tmp"
        size = "64M"
        mode = "0700"
        [env]
        set = { P = "/opt:$USER", Q = "$$x" }
        unset = ["*_TOKEN"]
        keep = ["GOOD_TOKEN"]
        """)
    assert (got.name, got.enforce, got.keep_tree, got.cwd) == ("ci-u", True, True, b"/work/tree/src")
    assert [(e.kind, e.target, e.source, e.readonly, e.size, e.mode) for e in got.entries] == [
        (Kind.BIND, b"/work/tree", b"/work/tree", False, None, 0o1777),
        (Kind.BIND, b"/srv/x", b"/work/data", True, None, 0o1777),
        (Kind.HIDE, b"/home/u/.ssh", None, False, None, 0o1777),
        (Kind.HIDE, b"/run/user/7/docker.sock", None, False, None, 0o1777),
        (Kind.HIDE, b"/home/u", None, False, None, 0o1777),
        (Kind.TMPFS, b"/tmp", None, False, 64 << 20, 0o700),
    ]
    assert got.env.apply({"A": "1", "MY_TOKEN": "2", "GOOD_TOKEN": "3", "P": "4"}) == {
        "A": "1",
        "GOOD_TOKEN": "3",
        "P": "/opt:u",
        "Q": "$x",
    }
    where = got.entries[3].where
    assert (where.path, where.line, where.column, where.length) == (b"ci.toml", 16, 21, 30)


def test_empty_profile_is_a_pass_through() -> None:
    got = view("")
    assert (got.name, got.entries, got.env, got.enforce) == ("ci", (), EnvRules(), False)


def test_all_mistakes_at_once() -> None:
    text = """\
        extends = ["nope"]
        [view]
        enforce = "yes"
        nmae = "x"
        [[mount]]
        type = "hid"
        target = "~/.ssh"
        [[mount]]
        type = "hide"
        target = ["/ok", "日本/$HOEM/x"]
        \textra = 1
        """
    assert [line for line in said(text).split("\n") if line.startswith("ci.toml")] == [
        'ci.toml:1:12: no profile "nope"',
        "ci.toml:3:11: expected true or false, got string",
        'ci.toml:4:1: unknown key "nmae"',
        'ci.toml:6:8: unknown type "hid"',
        'ci.toml:10:22: undefined variable "HOEM"',
        'ci.toml:11:2: unknown key "extra" for type "hide"',
    ]


def test_the_format() -> None:
    text = '[[mount]]\ntype = "hid"\ntarget = ["日本/$HOEM"]\n[nett]\n'
    assert said(text.replace('"hid"', '"hide"')) == (
        'ci.toml:3:15: undefined variable "HOEM"\n'
        '  target = ["日本/$HOEM"]\n'
        '                  ^^^^^   did you mean "$HOME"?\n'
        'ci.toml:4:2: unknown key "nett"\n'
        "  [nett]\n"
        "   ^^^^   known: extends, view, control, mount, module, env"
    )
    assert said(text).startswith(
        'ci.toml:2:8: unknown type "hid"\n  type = "hid"\n         ^^^^^   did you mean "hide"?\n'
    )


MISTAKES = [
    # profile, place, message, hint
    ("mount = 3", "1:9", "expected array of tables, got integer", ""),
    ("[mount]\ntype='ro'", "1:1", "expected array of tables, got table", "[[mount]]"),
    ("[[mount]]\ntarget='/x'", "1:1", '"type" is missing', "bind, move, ro, hide, tmpfs, root, cow"),
    ("[[mount]]\ntype=3\ntarget='/x'", "2:6", "expected string, got integer", ""),
    ("[[mount]]\ntype='ro'", "1:1", '"target" is missing for type "ro"', ""),
    ("[[mount]]\ntype='bind'\ntarget='/x'\nsize='1'", "4:1", 'unknown key "size"', 'only for type "tmpfs"'),
    ("[[mount]]\ntype='cow'\ntarget='/x'\nfsync=1", "4:7", "expected string, got integer", '"no" or "yes"'),
    ("[[mount]]\ntype='cow'\ntarget='/x'\nfsync='on'", "4:7", 'unusable value "on"', '"no" or "yes"'),
    ("[[mount]]\ntype='cow'\ntarget='/x'\nexcept=['y', '/z']", "4:14", 'this is not in "/x"', "relative"),
    ("[[mount]]\ntype='cow'\ntarget='/x'\nexcept=['.']", "4:9", 'this is not in "/x"', "absolute"),
    ("[[mount]]\ntype='cow'\ntarget=['/x', '/y']\nexcept=['/z']", "4:9", 'not in "/x" or "/y"', "a path"),
    ("[[mount]]\ntype='cow'\ntarget=['/dev', '/sys/fs']", "3:17", "cannot be of /proc or /sys", "command"),
    ("[[mount]]\ntype='cow'\ntarget='/x'\nsize='9Q'", "4:6", 'unusable value "9Q"', '"64M"'),
    ("[[mount]]\ntype='merge'\ntarget='/x'", "1:1", '"source" is missing for type "merge"', ""),
    ("[[mount]]\ntype='merge'\ntarget='/x'\nsource='/y'", "4:8", "expected array, got string", '["/y"]'),
    ("[[mount]]\ntype='merge'\ntarget='/x'\nsource=[]", "4:8", "this array needs at least one", ""),
    ("[[mount]]\ntype='bind'\ntarget='/x'\nstore='1'", "4:1", 'unknown key "store"', '"cow" or "mincow"'),
    ("[[mount]]\ntype='tmpfs'\ntarget='/x'\nsize='64Q'", "4:6", 'unusable value "64Q"', '"64M"'),
    ("[[mount]]\ntype='tmpfs'\ntarget='/x'\nsize=0", "4:6", "0 is out of range", '"64M"'),
    ("[[mount]]\ntype='tmpfs'\ntarget=['/x','/y']\nsize='9999999T'", "4:6", "size is out of range", ""),
    ("[[mount]]\ntype='tmpfs'\ntarget='/x'\nmode=755", "4:6", "expected string, got integer", '"755"'),
    ("[[mount]]\ntype='tmpfs'\ntarget='/x'\nmode='rwx'", "4:6", 'unusable value "rwx"', "octal"),
    ("[[mount]]\ntype='ro'\ntarget=3", "3:8", "expected string or array, got integer", ""),
    ("[[mount]]\ntype='ro'\ntarget=[]", "3:8", "needs at least one element", ""),
    ("[[mount]]\ntype='ro'\ntarget=['/a', 1979-05-27]", "3:15", "expected string, got date", ""),
    ("[[mount]]\ntype='ro'\ntarget=''", "3:8", "this string is empty", ""),
    ("[[mount]]\ntype='ro'\ntarget='$EMPTY'", "3:8", "empty once its variables", ""),
    ("[[mount]]\ntype='ro'\ntarget='~bob/x'", "3:9", 'unknown home directory "~bob"', "./~"),
    ("[[mount]]\ntype='ro'\ntarget='a$'", "3:10", 'no variable after "$"', '"$$"'),
    ("[[mount]]\ntype='ro'\ntarget='a${X'", "3:10", '"${" without "}"', '"$$"'),
    ("[[mount]]\ntype='ro'\ntarget='${X+y}'", "3:9", 'unknown form "${X+y}"', "${NAME:-default}"),
    ("[[mount]]\ntype='ro'\ntarget='/${QQQQ}'", "3:10", 'undefined variable "QQQQ"', "${QQQQ:-default}"),
    ("[[mount]]\ntype='ro'\ntarget='${X:-/a$YYYY}'", "3:16", 'undefined variable "YYYY"', ""),
    ("[[mount]]\ntype='ro'\ntarget=\"a\\t$YYYY\"", "3:8", 'undefined variable "YYYY"', ""),
    ('[[mount]]\ntype="ro"\ntarget="a\\u0000"', "3:8", "NUL", ""),
    ("[[mount]]\ntype='hide'\ntarget='/'", "3:8", "cannot be hidden", "tmpfs"),
    ("[[mount]]\ntype='root'\nsource='/a'\ntarget='/b'", "4:8", 'unusable value "/b"', "bind"),
    ("[view]\nextends=['a']", "2:1", 'unknown key "extends"', "at the top"),
    ("enforce = true", "1:1", 'unknown key "enforce"', "[view]"),
    ("[view]\nunset = []", "2:1", 'unknown key "unset"', "[env]"),
    ("view = 'x'", "1:8", "expected table, got string", ""),
    ("extends = 'base'", "1:11", "expected array, got string", '["base"]'),
    ("[env]\nset = { A = 3 }", "2:13", "expected string, got integer", '"3"'),
    ("[env.set]\n'A=B' = 'x'", "2:1", '"A=B" cannot name a variable', ""),
    ("[view]\nname = hide", "2:8", "not valid TOML: invalid value", '"hide"'),
    ("[view]\nenforce = True", "2:11", "not valid TOML: invalid value", "lower case"),
    ("[view]\nname = 'a'\nname = 'b'", "3:1", "not valid TOML: defined twice", ""),
    ("[view]\n[view]", "2:1", "not valid TOML: defined twice", ""),
    ("[view", "1:6", "not valid TOML", ""),
    ("x = '''", "1:8", "not valid TOML", ""),
    ("x = [", "1:6", "not valid TOML", ""),
    ("x = " + "[" * 5000, "1:1", "nested too deeply", ""),
    ("x = " + "9" * 5000, "1:5", "a number with too many digits", ""),
    ("a = 1\nb = '\udcff'", "2:6", "not UTF-8", ""),
]


@pytest.mark.parametrize(("text", "place", "message", "hint"), MISTAKES, ids=[row[2] for row in MISTAKES])
def test_mistakes(text: str, place: str, message: str, hint: str) -> None:
    first, *rest = said(text).split("\n")
    assert first.startswith(f"ci.toml:{place}: "), said(text)
    assert message in first
    assert len(rest) == 2, said(text)
    assert hint in rest[1]
    assert "^" in rest[1]


def test_a_long_line_is_cut_around_the_mistake() -> None:
    names = ", ".join(f'"/x{n}"' for n in range(200))
    _, line, caret = said(f'[[mount]]\ntype="hide"\ntarget=[{names}, "$NOPE_NOPE", {names}]').split("\n")
    assert len(line) < 130
    start = caret.index("^")
    assert line[start : start + 10] == "$NOPE_NOPE"


def test_escape_sequences_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in said('[view]\n"a\\u001b[31m" = 1\nb = \x1b[31m')
    assert "\x1b" not in said('[view]\n"a\\u001b[31m" = 1\n')


class TestExtends:
    BASE = """\
        [view]
        enforce = true
        name = "base"
        [[mount]]
        type = "ro"
        target = "/"
        [env]
        set = { A = "base", B = "base" }
        unset = ["X"]
        """

    def test_parents_come_first_and_the_child_wins(self) -> None:
        got = view(
            """\
            extends = ["base"]
            [view]
            name = "child"
            [[mount]]
            type = "tmpfs"
            target = "/tmp"
            [env]
            set = { A = "child" }
            unset = ["Y", "B"]
            """,
            base=self.BASE,
        )
        assert (got.name, got.enforce) == ("child", True)
        assert [entry.kind for entry in got.entries] == [Kind.RO, Kind.TMPFS]
        assert got.env.apply({"X": "", "Y": "", "Z": ""}) == {"Z": "", "A": "child"}
        assert [source.path for source in got.sources] == [b"base.toml", b"ci.toml"]
        assert got.entries[0].where.path == b"base.toml"

    def test_a_file_reached_twice_counts_once(self) -> None:
        got = entries(
            "extends = ['a', 'b']",
            a="extends = ['base']\n[[mount]]\ntype='bind'\ntarget='/a'",
            b="extends = ['base']\n[[mount]]\ntype='bind'\ntarget='/b'",
            base=self.BASE,
        )
        assert [entry.target for entry in got] == [b"/", b"/a", b"/b"]

    def test_a_cycle_is_named(self) -> None:
        text = said("extends = ['b']", b="extends = ['c.toml']", c="extends = ['./ci']")
        assert text.startswith(
            "c.toml:1:12: a profile cannot extend itself: ci.toml → b.toml → c.toml → ./ci.toml\n"
        )

    def test_names_are_looked_up_in_the_users_directory(self) -> None:
        got = view("extends = ['mine']", **{"/home/u/.config/vuos/mine": "[view]\nenforce=true"})
        assert got.enforce

    def test_sources_and_parents_are_relative_to_their_file(self) -> None:
        got = entries(
            "extends = ['sub/one']",
            sub__one="extends = ['two']\n[[mount]]\ntype='bind'\nsource='f'\ntarget='t'",
            sub__two="[[mount]]\ntype='bind'\nsource='~/f'\ntarget='/t'",
        )
        assert [(entry.target, entry.source) for entry in got] == [
            (b"/t", b"/home/u/f"),
            (b"/work/tree/t", b"/work/tree/sub/f"),
        ]

    def test_mistakes_of_all_files_are_told_at_once(self) -> None:
        text = said("extends = ['a', 'b']\nx = 1", a="y = ", b="z = 1")
        assert [line.split(": ")[0] for line in text.split("\n") if line[:1] != " "] == [
            "a.toml:1:5",
            "ci.toml:2:1",
            "b.toml:1:1",
        ]


def test_no_such_profile() -> None:
    def read(path: bytes) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ProfileErrors) as caught:
        load(b"ci", env=ENV, cwd=CWD, read=read)
    assert str(caught.value) == (
        "ci: no such profile\n  looked for ci, ci.toml, /home/u/.config/vuos/ci.toml, /etc/vuos/ci.toml"
    )


def test_unreadable_profile() -> None:
    def read(path: bytes) -> bytes:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ProfileErrors, match="cannot be read: Permission denied"):
        load(b"ci", env=ENV, cwd=CWD, read=read)


VALUES = st.recursive(
    st.sampled_from(
        ["'/x'", "'hide'", "'~'", "'$HOME'", "'$NO'", "3", "true", "1.5", "1979-05-27", "''", "'64M'"]
    ),
    lambda inner: st.lists(inner, max_size=2).map(lambda items: "[" + ", ".join(items) + "]"),
    max_leaves=3,
)
KEYS = st.sampled_from(["type", "target", "source", "readonly", "size", "mode", "name", "set", "unset", "x"])
TYPES = st.sampled_from(["", "type='bind'\n", "type='ro'\n", "type='tmpfs'\n", "type='root'\nsource='/r'\n"])


@st.composite
def profiles(draw: st.DrawFn) -> str:
    out = ""
    for header in draw(st.permutations(["[view]", "[[mount]]", "[env]", "[[mount]]", "[y]"])):
        pairs = draw(st.dictionaries(KEYS, VALUES, max_size=3))
        kind = draw(TYPES) if header == "[[mount]]" else ""
        if kind:
            pairs = {key: value for key, value in pairs.items() if key + "=" not in kind}
        out += f"{header}\n{kind}" + "".join(f"{key} = {value}\n" for key, value in pairs.items())
    return out


@settings(max_examples=300, deadline=None)
@given(profiles())
def test_nothing_but_profile_errors(text: str) -> None:
    """Whatever the file says: a view, or errors that each point into a line of it."""
    told: tuple[ProfileError, ...] = ()
    try:
        view(text)
    except ProfileErrors as refusal:
        told = refusal.errors or (ProfileError(b"", 0, 0, "refused without a reason"),)
    for error in told:
        assert error.text == text.split("\n")[error.line - 1]
        assert 1 <= error.column <= len(error.text) + 1
