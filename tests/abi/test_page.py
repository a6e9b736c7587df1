"""docs/syscalls.md is what the table says."""

from pathlib import Path

from vuosd.abi.page import page
from vuosd.abi.syscalls import ROWS

PAGE = Path(__file__).parents[2] / "docs/syscalls.md"


def test_the_committed_page_is_not_stale() -> None:
    assert PAGE.read_text() == page(), "run: python -m vuosd.abi.page > docs/syscalls.md"


def test_every_row_is_on_it() -> None:
    lines = page().splitlines()
    for row in ROWS:
        assert any(line.startswith(f"| {row.nr} | `{row.name}` | {row.level.value} |") for line in lines)
