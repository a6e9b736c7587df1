"""The position finder against tomllib: what it finds at a value's place is that value."""

import math
import string
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vuosd.views.positions import locate

TRICKY = """\
# a comment with [table] and "quotes"
title = "x" # ] after
a.b."c d" = 1
a . e = 0x1f
'lit' = 'no \\ escape'
"\\u00e9\\"q" = '''
[not.a.table]
k = 1'''
multi = \"\"\"\\
  ends in quotes \"\"\"\"\"
empty = \"\"\"\"\"\"
one-left = ''''''''
date = 1979-05-27 07:32:00Z # a space inside
special = [inf, -nan, +1_000, 1e3, true,
  # comment, with ] and ,
  [ "a", ['b'] , ], { x = 1, y.z = "}" }, # last
]
nothing = []
none = {}
[t]
k = "v"
[t.u.'v w']
k = 1
[[arr]]
name = "first"
[[arr]]
name = "second"
[arr.sub]
x = 1
[[arr.deep]]
y = 1
[[arr.deep]]
y = 2
[ spaced . "key" ]
z = 00:01:02
"""


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Any:
    """Every value with its path, tables and arrays included."""
    if at:
        yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*at, key))


def same(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one):
        return math.isnan(two)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return type(one) is type(two) and bool(one == two)


def agree(text: str) -> None:
    data = tomllib.loads(text)
    spots = locate(text)
    found = dict(leaves(data))
    assert spots.keys() == found.keys()
    for at, value in found.items():
        spot = spots[at]
        written = text[spot.start : spot.end]
        if isinstance(at[-1], str):
            key = text[spot.key_start : spot.key_end]
            assert tomllib.loads(f"{key} = 1") == {at[-1]: 1}
        if written.startswith("[") and isinstance(value, dict):
            assert at[-1] in tomllib.loads(written) or isinstance(at[-1], int) or len(at) > 1
        elif isinstance(value, dict) and not written.startswith("{"):
            assert written == text[spot.key_start : spot.key_end]  # implied by a dotted key
        elif not (
            isinstance(value, list) and written.startswith("[[") and value and isinstance(value[0], dict)
        ):
            assert same(tomllib.loads("k = " + written)["k"], value)


def test_tricky() -> None:
    agree(TRICKY)


BARE = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=4)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)


def basic(text: str) -> str:
    out = "".join(
        "\\" + c if c in '"\\' else f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in text
    )
    return f'"{out}"'


def literal(text: str) -> str:
    plain = all(c == "\t" or (ord(c) >= 32 and ord(c) != 127 and c != "'") for c in text)
    return f"'{text}'" if plain else basic(text)


def multi(text: str) -> str:
    out = "".join(
        c if c in '\n\t"' or (ord(c) >= 32 and ord(c) != 127 and c != "\\") else f"\\u{ord(c):04x}"
        for c in text
    )
    while '"""' in out:
        out = out.replace('"""', '""\\"')
    return f'"""{out}"""'


KEY = st.one_of(BARE, TEXT.map(basic), TEXT.map(literal))
SCALAR = st.one_of(
    TEXT.map(basic),
    TEXT.map(literal),
    TEXT.map(multi),
    st.text("'\"\n ab", max_size=6).map(multi),
    st.sampled_from(["''''''''", "''''a'''''", '""""""""', "'''\n'''"]),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.sampled_from(["1_000", "0xff", "inf", "-nan", "1e-3", "true", "false"]),
    st.sampled_from(["1979-05-27", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00.5", "07:32:00"]),
)
GAP = st.sampled_from(["", " ", "\t", "\n", " # ], } \"'\n", "\n\n  "])
BLANK = st.sampled_from(["", " ", "\t "])


@st.composite
def arrays(draw: Any, inner: Any) -> str:
    items = draw(st.lists(inner, max_size=3))
    out = "["
    for index, item in enumerate(items):
        out += draw(GAP) + item + draw(GAP)
        out += "," if index < len(items) - 1 or draw(st.booleans()) else ""
    return f"{out}{draw(GAP)}]"


@st.composite
def inline_tables(draw: Any, inner: Any) -> str:
    pairs = draw(st.lists(st.tuples(KEY, BLANK, BLANK, inner), max_size=3))
    return "{ " + ", ".join(f"{k}{a}={b}{v}" for k, a, b, v in pairs) + " }"


VALUE = st.recursive(SCALAR, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)


@st.composite
def documents(draw: Any) -> str:
    out = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["pair", "pair", "table", "array", "comment"]))
        dotted = f"{draw(BLANK)}.{draw(BLANK)}".join(draw(st.lists(KEY, min_size=1, max_size=3)))
        if kind == "pair":
            out.append(f"{draw(BLANK)}{dotted}{draw(BLANK)}={draw(BLANK)}{draw(VALUE)}{draw(BLANK)}")
        elif kind == "table":
            out.append(f"[{draw(BLANK)}{dotted}{draw(BLANK)}]")
        elif kind == "array":
            out += [f"[[{dotted}]] # one"] * draw(st.integers(1, 2))
        else:
            out.append(draw(BLANK) + '# "comment = [')
    end = draw(st.sampled_from(["", "\n"]))
    return "\n".join(out) + str(end)


@settings(max_examples=300, deadline=None)
@given(documents())
def test_generated(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a key twice: not the finder's business
    agree(text)


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_quotation_marks_before_the_closing_ones(quotes: str) -> None:
    for extra in range(3):
        agree(f"k = {quotes}a{quotes[0] * extra}{quotes}\nl = 1\n")
