"""The documentation and the examples are as the types say."""

import importlib.util
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vuosd.views import Kind, flatten, load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
ENV = {"HOME": "/home/u"}


def module() -> Any:
    spec = importlib.util.spec_from_file_location("regenerate", Path(__file__).with_name("regenerate.py"))
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def validator() -> Any:
    schema = json.loads((ROOT / "docs/profile.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read(path: bytes) -> bytes:
    return Path(os.fsdecode(path)).read_bytes()


def test_generated_files_are_fresh() -> None:
    for path, text in module().generated().items():
        assert path.read_text() == text, f"{path.name} is stale: python tests/views/regenerate.py"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples(path: Path) -> None:
    validator().validate(tomllib.loads(path.read_text()))
    view = load(os.fsencode(path), env=ENV, cwd=b"/home/u/tree", read=read)
    assert view.name
    assert flatten(view.entries)


def test_the_schema_refuses_what_load_refuses() -> None:
    refused = [
        "x = 1",
        "[[mount]]\ntype = 'hid'\ntarget = '/x'",
        "[[mount]]\ntype = 'ro'",
        "[[mount]]\ntype = 'tmpfs'\ntarget = '/x'\nsize = '64Q'",
        "[[mount]]\ntype = 'hide'\ntarget = []",
        "[view]\nenforce = 'yes'",
    ]
    assert all(not validator().is_valid(tomllib.loads(text)) for text in refused)


def test_the_example_of_the_page() -> None:
    text = (ROOT / "docs/profile.md").read_text()
    first = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0].replace('"base"', "")
    validator().validate(tomllib.loads(first))
    load(b"x", env=ENV, cwd=b"/tree", read=lambda path: first.encode())


def test_ci_shows_the_tree_wherever_it_lies() -> None:
    for cwd in (b"/home/u/tree", b"/tmp/clone", b"/var/tmp/x", b"/srv/tree"):
        view = load(os.fsencode(ROOT / "examples/ci.toml"), env=ENV, cwd=cwd, read=read)
        table = {entry.target: entry for entry in flatten(view.entries)}
        assert (table[cwd].kind, table[cwd].source, table[cwd].readonly) == (Kind.BIND, cwd, False)
        assert table[b"/"].readonly
        assert table[b"/tmp"].kind is Kind.TMPFS
        assert table[b"/home/u/.ssh"].kind is Kind.HIDE


def test_ci_hides_secrets_even_when_the_tree_is_the_home_directory() -> None:
    view = load(os.fsencode(ROOT / "examples/ci.toml"), env=ENV, cwd=b"/home/u", read=read)
    table = {entry.target: entry for entry in flatten(view.entries)}
    assert table[b"/home/u"].kind is Kind.BIND
    assert table[b"/home/u/.ssh"].kind is Kind.HIDE
    kept = view.env.apply({"PATH": "/bin", "GITHUB_TOKEN": "x", "AWS_PROFILE": "x", "HOME": "/home/u"})
    assert kept == {"PATH": "/bin", "HOME": "/home/u"}
