"""Options of a mount: what is understood, and what is said of the rest."""

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vuosd.api import MountOptions, OptionError
from vuosd.api.options import decode, join, split


class Options(MountOptions):
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    mode: int | None = None
    ratio: float = 1.0
    cached: bool = True
    kind: Literal["a", "b"] = "a"
    name: list[str] = msgspec.field(default_factory=list)
    long_name: str = ""


class Needs(MountOptions):
    token: str


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("size=64M", "size", 64 << 20),
        ("size=0x10", "size", 16),
        ("mode=0755", "mode", 0o755),
        ("mode=0o755", "mode", 0o755),
        ("mode=2t", "mode", 2 << 40),
        ("ratio=0.5", "ratio", 0.5),
        ("nocached", "cached", False),
        ("cached=no", "cached", False),
        ("cached=on", "cached", True),
        ("kind=b", "kind", "b"),
        ("name=x,name=y", "name", ["x", "y"]),
        (r"name=a\,b,name=c\\d", "name", ["a,b", r"c\d"]),
        ("long-name=x=y", "long_name", "x=y"),
        ("ro", "ro", True),
        ("ro,rw", "ro", False),
        ("", "size", 0),
    ],
)
def test_understood(text: str, field: str, value: object) -> None:
    assert getattr(decode(Options, text, "x"), field) == value


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        (Options, "sise=3", 'x has no option "sise"; did you mean "size"?'),
        (Options, "zzz", 'x has no option "zzz"; it has size, mode, ratio'),
        (Options, "size", 'x: option "size" needs a value: size=…'),
        (Options, "size=-1", 'x: option "size" cannot be "-1": expected int >= 0'),
        (Options, "size=3Q", 'x: option "size" cannot be "3Q": expected int'),
        (Options, "kind=c", 'x: option "kind" cannot be "c": invalid enum value'),
        (Options, "cached=maybe", 'x: option "cached" cannot be "maybe": expected bool'),
        (Options, "noname", 'x has no option "noname"; did you mean "name"?'),
        (Needs, "", "x needs the option token=…"),
    ],
)
def test_refused(schema: type[MountOptions], text: str, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        decode(schema, text, "x")
    assert str(caught.value).startswith(said)


def test_tables() -> None:
    """A profile's table, and keywords, have values of their own types."""
    given = decode(Options, {"size": 3, "cached": False, "name": ["a,b"]}, "x")
    assert (given.size, given.cached, given.name) == (3, False, ["a,b"])


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(min_size=1)))
def test_text_and_back(words: dict[str, str]) -> None:
    assert dict(split(join(words))) == words
