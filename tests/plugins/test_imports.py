"""Plugins have no private door: of vuosd they import the public surface."""

import ast
from pathlib import Path

import pytest

PLUGINS = sorted((Path(__file__).parents[2] / "vuosd/plugins").glob("*.py"))


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.name)
def test_what_plugins_import(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            assert module.split(".")[0] != "vuosd" or module.split(".")[1] in ("api", "abi"), module
