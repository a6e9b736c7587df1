"""What the start of every session pays for, and what the package may not do."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

from vuosd.views import flatten, load, resolved

ROOT = Path(__file__).resolve().parents[2]


def test_thousands_of_targets_are_quick() -> None:
    targets = ",\n".join(f'"/srv/{n % 100}/{n}"' for n in range(10_000))
    text = f'[[mount]]\ntype = "hide"\ntarget = [{targets}]\n'.encode()
    start = time.process_time()
    view = load(b"x", env={}, cwd=b"/", read=lambda path: text)
    assert view.entries[-1].where.line == 10_002
    assert len(flatten(resolved(view, lambda path: None).entries)) == 10_000
    assert time.process_time() - start < 2


def test_no_io_and_nothing_heavy() -> None:
    """No file of the package opens anything; importing it brings in nothing heavy."""
    for path in (ROOT / "vuosd/views").glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not any(isinstance(call, ast.Name) and call.id in ("open", "print", "input") for call in calls)
    script = "import sys, vuosd.views; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    modules = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"trio", "asyncio", "difflib", "json", "socket", "logging"} & set(modules)
