"""Programs as they are used, from start to end."""

from collections.abc import Callable
from functools import cache

from bench.columns import Column
from bench.measurements.row import Row, whole
from bench.places import Place

Command = Callable[[Place, Column], list[str]]


def _shell(script: str, place: Place, column: Column) -> list[str]:
    """`script` in sh, with $1 the tree, $2 /usr/share, $3 the Python."""
    return ["/bin/sh", "-c", script, "sh", str(column.tree), str(column.share), place.python]


def _script(text: str) -> Command:
    return lambda place, column: _shell(text, place, column)


@cache
def _modules(place: Place) -> str:
    return ",".join(place.modules())


def _import(place: Place, column: Column) -> list[str]:
    program = (
        "import sys; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if 'lib-dynload' in p]\n"
        f"import {_modules(place)}"
    )
    return [place.python, "-I", "-S", "-B", "-c", program, f"{column.tree}/stdlib"]


def rows(place: Place, *, quick: bool) -> list[Row]:
    compilations = 10 if quick else 50

    def everywhere(ratio: str) -> dict[str, str]:
        return dict.fromkeys(("pass", "bind", "enforce"), ratio)

    compile = 'gcc -O1 -c -o "$1/small.o" "$1/small.c" || exit 1'
    gcc = f"i=0; while [ $i -lt {compilations} ]; do {compile}; i=$((i+1)); done"
    return [
        Row("find /usr/share", whole(_script('find "$2" >/dev/null')), target=everywhere("2.0x")),
        Row("find -size", whole(_script('find "$2" -size +100M >/dev/null'))),
        # GNU tar reads nothing when it sees that the archive is /dev/null.
        Row(
            "tar /usr/share/doc",
            whole(_script('tar cf - -C "$2" doc | cat >/dev/null')),
            target=everywhere("1.6x"),
        ),
        Row(
            "git status",
            whole(_script('cd "$1/repository" && git status >/dev/null')),
            target=everywhere("2.3x"),
            prepare=place.repository,
        ),
        Row(
            "git log",
            whole(_script('cd "$1/repository" && git log --stat | cat >/dev/null')),
            prepare=place.repository,
        ),
        Row(
            f"gcc, {compilations} times",
            whole(_script(gcc)),
            target=everywhere("1.15x") | {"cow": "1.2x"},
            runs=0.5,
        ),
        Row("import 200 modules", whole(_import), prepare=lambda: _modules(place)),
    ]
