"""JSON Schema and reference tables of the profile format, from its types. No I/O, no trio."""

from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import msgspec.inspect

from vuosd.views.profile import ControlTable, EnvTable, Filesystem, ModuleTable, Mount, Profile, ViewTable

_NAMES_ITSELF = r"^fuse(blk)?$|^fuse(blk)?\..|[:/]"
"""As `validate` has it."""


def schema(types: Iterable[str]) -> dict[str, Any]:
    """The JSON Schema of a profile, for editors; `types` are the names of file systems."""
    (top,), tables = msgspec.json.schema_components([Profile], ref_template="#/$defs/{name}")
    _, more = msgspec.json.schema_components([Filesystem], ref_template="#/$defs/{name}")
    kind = more["Filesystem"]["properties"]["type"]
    kind["anyOf"] = [{"enum": sorted(types)}, {"type": "string", "pattern": _NAMES_ITSELF}]
    mounts = tables["Profile"]["properties"]["mount"]["items"]
    mounts["anyOf"].append({"$ref": "#/$defs/Filesystem"})
    del mounts["discriminator"]  # which has no place for types that are not listed
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": {**tables, **more}}


def reference() -> str:
    """The tables of docs/profile.md: every table, entry type and key."""
    leave = {"view", "control", "mount", "module", "env"}
    parts = [_section("Top of the file", "", Profile, leave=leave)]
    parts.append(_section("`[view]`", _doc(ViewTable), ViewTable))
    for mount in get_args(Mount):
        parts.append(
            _section(f'`[[mount]]` with `type = "{mount.__struct_config__.tag}"`', _doc(mount), mount)
        )
    parts.append(_section("`[[mount]]` with the `type` of a file system", _doc(Filesystem), Filesystem))
    parts.append(_section("`[[module]]`", _doc(ModuleTable), ModuleTable))
    parts.append(_section("`[control]`", _doc(ControlTable), ControlTable))
    parts.append(_section("`[env]`", _doc(EnvTable), EnvTable))
    return "\n".join(parts)


def _doc(cls: type) -> str:
    return (cls.__doc__ or "").strip() + "\n\n"


def _section(title: str, text: str, cls: type, leave: frozenset[str] | set[str] = frozenset()) -> str:
    kind: Any = msgspec.inspect.type_info(cls)
    rows = [_row(field) for field in kind.fields if field.encode_name not in leave]
    head = "| key | value | meaning |\n|---|---|---|\n"
    return f"### {title}\n\n{text}{head}{''.join(rows)}"


def _row(field: Any) -> str:
    note = "**required**. " if field.required else ""
    default = field.default
    text = _description(field.type)
    if default is not msgspec.NODEFAULT and default is not msgspec.UNSET:
        text += f" Default: `{msgspec.json.encode(default).decode()}`."
    return f"| `{field.encode_name}` | {_words(field.type)} | {note}{text} |\n"


def _description(kind: Any) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description") or _description(kind.type))
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(filter(None, map(_description, kind.types)), "")
    return ""


def _words(kind: Any) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        examples = (kind.extra_json_schema or {}).get("examples", [])
        return _words(kind.type) + "".join(f" (`{msgspec.json.encode(e).decode()}`)" for e in examples)
    if isinstance(kind, msgspec.inspect.UnionType):
        return " or ".join(map(_words, kind.types))
    if isinstance(kind, msgspec.inspect.ListType):
        item = _words(kind.item_type)
        return f"array of {item}" if "`" in item else f"array of {item}s"
    if isinstance(kind, msgspec.inspect.LiteralType):
        return " or ".join(f"`{msgspec.json.encode(value).decode()}`" for value in kind.values)
    return _KNOWN[type(kind)]


_KNOWN: dict[type, str] = {
    msgspec.inspect.StrType: "string",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.DictType: "table of strings",
}
