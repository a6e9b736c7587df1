"""`~`, `$NAME`, `${NAME}`, `${NAME:-default}` and `$$` in a profile's strings. No I/O, no trio.

The rules are the shell's where it has the same notation; unlike there, an undefined variable is an error. A
default may hold variables in its turn and is looked at only when it is used.
"""

import re
from collections.abc import Mapping

import msgspec

from vuosd.views.errors import nearest, quote

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACE = re.compile(r"\$?\{|\}")
_DEEPEST = 16


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a part of a string."""

    offset: int
    length: int
    message: str
    hint: str = ""


def expand(text: str, env: Mapping[str, str]) -> tuple[str, list[Problem]]:
    """The string with its variables replaced, and what could not be."""
    if "$" not in text and not text.startswith("~"):
        return text, []
    problems: list[Problem] = []
    return _expand(text, 0, env, problems, 0), problems


def _expand(text: str, base: int, env: Mapping[str, str], problems: list[Problem], depth: int) -> str:
    if depth > _DEEPEST:
        problems.append(Problem(base, len(text), "defaults nested too deeply"))
        return ""
    out: list[str] = []
    pos = 0
    if text.startswith("~"):
        pos = _home(text, base, env, problems, out)
    while True:
        dollar = text.find("$", pos)
        if dollar < 0:
            out.append(text[pos:])
            return "".join(out)
        out.append(text[pos:dollar])
        pos = dollar + 1
        name = _NAME.match(text, pos)
        if name is not None:
            pos = name.end()
            out.append(_value(name[0], base + dollar, pos - dollar, env, problems))
        elif text.startswith("$", pos):
            out.append("$")
            pos += 1
        elif text.startswith("{", pos):
            pos = _braced(text, dollar, base, env, problems, depth, out)
        else:
            problems.append(
                Problem(base + dollar, 1, 'no variable after "$"', 'write "$$" for a dollar sign')
            )


def _home(text: str, base: int, env: Mapping[str, str], problems: list[Problem], out: list[str]) -> int:
    user = text[1:].split("/", 1)[0]
    if user:
        hint = "only ~ and ~/ stand for a home directory; write ./~ for a file of such a name"
        problems.append(Problem(base, len(user) + 1, f"unknown home directory {quote('~' + user)}", hint))
    elif not env.get("HOME"):
        problems.append(Problem(base, 1, '"~" needs the variable HOME, which is not set'))
    else:
        home = env["HOME"]
        out.append(home.rstrip("/") if text.startswith("~/") else home)
    return len(user) + 1


def _braced(
    text: str,
    dollar: int,
    base: int,
    env: Mapping[str, str],
    problems: list[Problem],
    depth: int,
    out: list[str],
) -> int:
    """Replaces the `${…}` at `dollar`; returns where the text goes on."""
    close = _closing(text, dollar)
    if close is None:
        problems.append(
            Problem(base + dollar, len(text) - dollar, '"${" without "}"', 'write "$$" for a dollar sign')
        )
        return len(text)
    length = close + 1 - dollar
    name = _NAME.match(text, dollar + 2)
    rest = "" if name is None else text[name.end() : close]
    if name is None or not (rest == "" or rest.startswith(":-")):
        hint = 'known are "${NAME}" and "${NAME:-default}"'
        problems.append(
            Problem(base + dollar, length, f"unknown form {quote(text[dollar : close + 1])}", hint)
        )
    elif rest:
        start = name.end() + 2
        out.append(env.get(name[0]) or _expand(text[start:close], base + start, env, problems, depth + 1))
    else:
        out.append(_value(name[0], base + dollar, length, env, problems))
    return close + 1


def _closing(text: str, dollar: int) -> int | None:
    depth = 0
    for brace in _BRACE.finditer(text, dollar):
        depth += 1 if brace[0] != "}" else -1
        if depth == 0:
            return brace.start()
    return None


def _value(name: str, offset: int, length: int, env: Mapping[str, str], problems: list[Problem]) -> str:
    value = env.get(name)
    if value is None:
        close = nearest(name, env)
        hint = f"did you mean {quote('$' + close)}?" if close else f'"${{{name}:-default}}" gives a default'
        problems.append(Problem(offset, length, f"undefined variable {quote(name)}", hint))
        return ""
    return value
