"""Writes what docs/ has from the profile's types: the JSON Schema and the tables of the reference.

python tests/views/regenerate.py
"""

import json
from importlib.metadata import distribution
from pathlib import Path

from vuosd.api import registry
from vuosd.views.schema import reference, schema

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN = "<!-- generated from vuosd/views/profile.py: python tests/views/regenerate.py -->\n"
END = "<!-- end -->\n"


def _types() -> list[str]:
    """Ours: an editor cannot know which plugins are installed."""
    names = [point.name for point in distribution("vuosd").entry_points if point.group == registry.GROUP]
    return [*names, *(alias for name in names for alias in registry.ALIASES.get(name, ()))]


def generated() -> dict[Path, str]:
    """The files' text as it has to be."""
    page = DOCS / "profile.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    return {
        DOCS / "profile.schema.json": json.dumps(schema(_types()), indent=2, ensure_ascii=False) + "\n",
        page: f"{before}{BEGIN}\n{reference()}\n{END}{after}",
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
