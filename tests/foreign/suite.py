"""What a suite is to compare.py."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from foreign.settings import Ended

Outcomes = Mapping[str, str]  # of each check that a test made: "passed", "TPASS", "ok" …


@dataclass(frozen=True)
class Test:
    name: str
    argv: tuple[str, ...]
    read: Callable[[Ended], Outcomes]
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60
    report: bool = False
    root: bool = False  # to an ordinary user it says nothing


@dataclass(frozen=True)
class Suite:
    name: str
    tests: list[Test]
    # Is there anything to compare in a test that natively says this?
    says_something: Callable[[Outcomes], bool] = bool
    views: tuple[str, ...] = ("pass-through", "hide", "bind", "enforce", "cow")  # unless others are asked for
