"""Profiles to views: TOML in, values out. No I/O but the callables it is given, no trio.

    path ──load──▶ View ──resolved, available, missing_sources, hidden_command──▶ View ──flatten──▶ entries

    load.py        finds the files of a profile and what they extend, collects every mistake
    document.py    one file as TOML           positions.py   where each key and value stands in it
    validate.py    data against profile.py's types, each mistake with its position and the nearest known word
    compile.py     tables to entries          variables.py   ~ $NAME ${NAME:-default}
    table.py       entries in order to one entry a target: what covers what
    checks.py      missing sources, a hidden command: what only the machine can tell
    links.py       symlinks in targets
    layered.py     a view with a cow more: vuos-run --cow
    schema.py      JSON Schema and reference tables, from profile.py

The nouns: a *profile* is text; an *entry* puts one thing at one target; a *view* is a profile's entries and
rules; a *position* is where in a profile something was said; a *ProfileError* tells a person about it.
"""

from vuosd.views.checks import about, available, hidden_command, hidden_cwd, misplaced_stores, missing_sources
from vuosd.views.errors import ProfileError, ProfileErrors
from vuosd.views.layered import NoCow, covered
from vuosd.views.links import resolved
from vuosd.views.load import load
from vuosd.views.model import (
    PASS_THROUGH,
    Entry,
    EnvRules,
    Kind,
    Layering,
    ModuleEntry,
    Position,
    Served,
    Source,
    View,
)
from vuosd.views.table import flatten

__all__ = [
    "PASS_THROUGH",
    "Entry",
    "EnvRules",
    "Kind",
    "Layering",
    "ModuleEntry",
    "NoCow",
    "Position",
    "ProfileError",
    "ProfileErrors",
    "Served",
    "Source",
    "View",
    "about",
    "available",
    "covered",
    "flatten",
    "hidden_command",
    "hidden_cwd",
    "load",
    "misplaced_stores",
    "missing_sources",
    "resolved",
]
