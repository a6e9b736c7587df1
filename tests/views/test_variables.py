"""The variables of a profile's strings, and the rules of its environment."""

import pytest

from vuosd.views import EnvRules
from vuosd.views.variables import expand

ENV = {"HOME": "/home/u", "A": "1", "EMPTY": "", "SLASH": "/"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("~", "/home/u"),
        ("~/x", "/home/u/x"),
        ("x~", "x~"),
        ("/~", "/~"),
        ("$A", "1"),
        ("x$A.y", "x1.y"),
        ("${A}B", "1B"),
        ("$$A", "$A"),
        ("$$$A", "$1"),
        ("${NO:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("[$EMPTY]", "[]"),
        ("${A:-$NO}", "1"),
        ("${NO:-${NEITHER:-$A}/x}/y", "1/x/y"),
        ("${NO:-~/x}", "/home/u/x"),
        ("${NO:-}", ""),
        ("${NO:-a:-b}", "a:-b"),
    ],
)
def test_expand(text: str, value: str) -> None:
    assert expand(text, ENV) == (value, [])


def test_values_are_not_expanded_again() -> None:
    assert expand("$X", {"X": "$A ~ ${"}) == ("$A ~ ${", [])


def test_home_of_root_makes_no_double_slash() -> None:
    assert expand("~/x", {"HOME": "/"}) == ("/x", [])


@pytest.mark.parametrize("text", ["$", "$1", "${", "${}", "${A", "${A-x}", "~v", "$NO", "${NO:-$NEITHER}"])
def test_problems(text: str) -> None:
    _, problems = expand(text, ENV)
    assert len(problems) == 1
    assert problems[0].offset + problems[0].length <= len(text)


def test_without_home() -> None:
    _, (problem,) = expand("~/x", {})
    assert "HOME" in problem.message


def test_nesting_has_an_end() -> None:
    _, problems = expand("${X:-" * 5000 + "}" * 5000, {})
    assert problems


def test_env_rules() -> None:
    rules = EnvRules(set={"B": "2", "C": "3"}, unset=("A_*", "B"), keep=("A_GOOD",))
    assert rules.apply({"A_1": "", "A_GOOD": "", "a_1": "", "B": "1"}) == {
        "A_GOOD": "",
        "a_1": "",
        "B": "2",
        "C": "3",
    }
