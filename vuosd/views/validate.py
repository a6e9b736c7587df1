"""A profile's data against its types: everything that is wrong with it, and what is usable all the same. No
I/O, no trio.

msgspec stops at the first mistake. It is asked first; only data it refuses is walked again here, by the same
types as msgspec itself describes them. What is usable goes on, so that the mistakes found later are reported
together with these.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

import msgspec
import msgspec.inspect

from vuosd.views.document import Document
from vuosd.views.errors import ProfileError, did_you_mean, nearest, printable, quote
from vuosd.views.positions import KeyPath
from vuosd.views.profile import Filesystem, Mount, Profile

_BAD: Final = object()
_PLACES: Final = {"extends": "at the top of the file, before the first [table]"}


Types = Callable[[], Collection[str]]
"""The names of types of file systems; asked for only when a profile has a type that is none of ours."""


def no_types() -> Collection[str]:
    return ()


class Checked(msgspec.Struct, frozen=True):
    """A profile file by its types; each mount with its index in the file."""

    document: Document
    profile: Profile
    mounts: list[tuple[int, Mount | Filesystem]]


def check(document: Document, types: Types = no_types) -> tuple[Checked, list[ProfileError]]:
    """The usable part of a document, and what is wrong with the rest."""
    try:
        profile = msgspec.convert(document.data, Profile)
    except msgspec.ValidationError as refusal:
        walk = _Walk(document, types)
        data = walk.profile(document.data)
        errors = walk.errors
        if not errors and not walk.filesystems:
            errors = [document.error(document.position(()), str(refusal))]
        mounts = [
            (index, msgspec.convert(mount, Filesystem if index in walk.filesystems else Mount))
            for index, mount in data.pop("mount", [])
        ]
        return Checked(document, msgspec.convert(data, Profile), mounts), errors
    return Checked(document, profile, list(enumerate(profile.mount))), []


class _Walk:
    """Walks data beside its type; returns it without what is wrong."""

    def __init__(self, document: Document, types: Types) -> None:
        self.types = types
        self.filesystems: set[int | str] = set()
        """Indices of the mounts whose type is that of a file system: none of the tags of Mount."""
        self.inspect = msgspec.inspect
        self.document = document
        self.errors: list[ProfileError] = []
        self.type: Any = self.inspect.type_info(Profile)
        self.steps: dict[type, Callable[[Any, Any, KeyPath], Any]] = {
            self.inspect.Metadata: lambda kind, value, at: self.value(kind.type, value, at),
            self.inspect.StructType: self.struct,
            self.inspect.UnionType: self.union,
            self.inspect.ListType: self.array,
            self.inspect.DictType: self.table,
            self.inspect.StrType: self.string,
            self.inspect.IntType: self.integer,
            self.inspect.BoolType: self.boolean,
            self.inspect.LiteralType: self.literal,
        }

    def profile(self, data: dict[str, Any]) -> dict[str, Any]:
        mounts = data.get("mount")
        clean: dict[str, Any] = self.value(self.type, {**data, "mount": []}, ())
        if isinstance(mounts, list):
            kind = self.field(self.type, "mount").item_type
            each = [(index, self.value(kind, mount, ("mount", index))) for index, mount in enumerate(mounts)]
            clean["mount"] = [(index, mount) for index, mount in each if mount is not _BAD]
        elif mounts is not None:
            hint = "each entry is a [[mount]] of its own" if isinstance(mounts, dict) else ""
            self.error(("mount",), f"expected array of tables, got {_name(mounts)}", hint)
        return clean

    def error(self, at: KeyPath, message: str, hint: str = "", *, key: bool = False) -> Any:
        self.errors.append(self.document.error(self.document.position(at, key=key), message, hint))
        return _BAD

    def value(self, kind: Any, value: Any, at: KeyPath) -> Any:
        return self.steps[type(kind)](kind, value, at)

    def field(self, kind: Any, name: str) -> Any:
        found = next(field.type for field in kind.fields if field.encode_name == name)
        while isinstance(found, self.inspect.Metadata):
            found = found.type
        return found

    def struct(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if type(value) is not dict:
            return self.error(at, f"expected table, got {_name(value)}")
        clean = {}
        fields = {field.encode_name: field for field in kind.fields}
        complete = True
        for key, item in value.items():
            if key == kind.tag_field:
                clean[key] = item
            elif key not in fields:
                self.error(
                    (*at, key),
                    f"unknown key {quote(key)}{_of(kind)}",
                    self.unknown(key, kind, fields),
                    key=True,
                )
            else:
                good = self.value(fields[key].type, item, (*at, key))
                if good is not _BAD:
                    clean[key] = good
                elif fields[key].required:
                    complete = False
        for key, field in fields.items():
            if field.required and key not in value:
                self.error(at, f"{quote(key)} is missing{_of(kind)}")
                complete = False
        return clean if complete else _BAD

    def unknown(self, key: str, kind: Any, fields: dict[str, Any]) -> str:
        """The hint for an unknown key: right key in the wrong place, or a key misspelt."""
        if key in _PLACES:
            return f"it belongs {_PLACES[key]}"
        if kind.tag is not None:
            others = [other.tag for other in self.mounts() if any(f.encode_name == key for f in other.fields)]
            if others:
                return f"only for type {' or '.join(quote(tag) for tag in others)}"
        for table in ("view", "env"):
            inside = self.field(self.type, table)
            if inside.cls is not kind.cls and any(field.encode_name == key for field in inside.fields):
                return f"it belongs in [{table}]"
        return did_you_mean(key, [*fields, *([kind.tag_field] if kind.tag_field else [])])

    def mounts(self) -> Iterator[Any]:
        yield from self.field(self.type, "mount").item_type.types

    def union(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if any(isinstance(choice, self.inspect.StructType) for choice in kind.types):
            return self.tagged(kind, value, at)
        for choice in kind.types:
            if type(value) in self.python(choice):
                return self.value(choice, value, at)
        expected = " or ".join(
            name for choice in kind.types for name in map(_WORDS.__getitem__, self.python(choice))
        )
        return self.error(at, f"expected {expected}, got {_name(value)}")

    def python(self, kind: Any) -> tuple[type, ...]:
        """The Python types that may stand for a type: none for one that TOML cannot say."""
        while isinstance(kind, self.inspect.Metadata):
            kind = kind.type
        known: dict[type, type] = {
            self.inspect.StrType: str, self.inspect.IntType: int, self.inspect.BoolType: bool,
            self.inspect.ListType: list, self.inspect.DictType: dict, self.inspect.StructType: dict,
        }  # fmt: skip
        return (known[type(kind)],) if type(kind) in known else ()

    def tagged(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if type(value) is not dict:
            return self.error(at, f"expected table, got {_name(value)}")
        tags = {choice.tag: choice for choice in kind.types}
        field = kind.types[0].tag_field
        if field not in value:
            return self.error(at, f"{quote(field)} is missing", f"known types: {', '.join(tags)}")
        tag = value[field]
        if type(tag) is not str:
            return self.error((*at, field), f"expected string, got {_name(tag)}")
        if tag not in tags:
            names = self.types()
            if tag in names or _names_itself(tag):
                self.filesystems.add(at[-1])
                return self.value(self.inspect.type_info(Filesystem), value, at)
            close = nearest(tag, [*tags, *names])
            hint = f"did you mean {quote(close)}?" if close else f"known types: {', '.join([*tags, *names])}"
            return self.error((*at, field), f"unknown type {quote(tag)}", hint)
        return self.value(tags[tag], value, at)

    def array(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if type(value) is not list:
            hint = f"write [{quote(value)}]" if type(value) is str else ""
            return self.error(at, f"expected array, got {_name(value)}", hint)
        if len(value) < (kind.min_length or 0):
            return self.error(at, "this array needs at least one element")
        clean = [self.value(kind.item_type, item, (*at, index)) for index, item in enumerate(value)]
        return _BAD if any(item is _BAD for item in clean) else clean

    def table(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if type(value) is not dict:
            return self.error(at, f"expected table, got {_name(value)}")
        clean = {key: self.value(kind.value_type, item, (*at, key)) for key, item in value.items()}
        return {key: item for key, item in clean.items() if item is not _BAD}

    def string(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if type(value) is not str:
            quoted = f'write it as a string: "{value}"' if type(value) in (int, float) else ""
            return self.error(at, f"expected string, got {_name(value)}", quoted)
        try:
            return msgspec.convert(value, _constrained(kind))
        except msgspec.ValidationError:
            if not value:
                return self.error(at, "this string is empty")
            return self.error(at, f"unusable value {quote(value)}", _LIKE.get(at[-1], ""))

    def literal(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if type(value) is not str:
            return self.error(at, f"expected string, got {_name(value)}", _one_of(kind.values))
        if value not in kind.values:
            close = nearest(value, kind.values)
            hint = f"did you mean {quote(close)}?" if close else _one_of(kind.values)
            return self.error(at, f"unusable value {quote(value)}", hint)
        return value

    def integer(self, kind: Any, value: Any, at: KeyPath) -> Any:
        if type(value) is not int:
            return self.error(at, f"expected integer, got {_name(value)}")
        if (kind.ge is not None and value < kind.ge) or (kind.le is not None and value > kind.le):
            return self.error(at, f"{value} is out of range", _LIKE.get(at[-1], ""))
        return value

    def boolean(self, kind: Any, value: Any, at: KeyPath) -> Any:
        return value if type(value) is bool else self.error(at, f"expected true or false, got {_name(value)}")


def _names_itself(type: str) -> bool:
    """Whether a type of file system says where it is: module:Class, a file, fuse.PROGRAM."""
    kind, dot, program = type.partition(".")
    return ":" in type or "/" in type or (kind in ("fuse", "fuseblk") and bool(program or not dot))


_WORDS: Final = {
    str: "string", int: "integer", float: "float", bool: "true or false", list: "array", dict: "table",
}  # fmt: skip
_LIKE: Final[dict[str | int, str]] = {
    "size": 'a number of bytes above 0, or a string such as "64M"',
    "mode": 'octal digits, such as "1777"',
    "target": 'a root is always at "/"; for another place use type = "bind"',
}


def _name(value: Any) -> str:
    return "boolean" if type(value) is bool else _WORDS.get(type(value), printable(type(value).__name__))


def _one_of(values: Iterable[str]) -> str:
    return " or ".join(map(quote, values))


def _of(kind: Any) -> str:
    return f" for type {quote(kind.tag)}" if kind.tag is not None else ""


def _constrained(kind: Any) -> Any:
    from typing import Annotated

    return Annotated[
        str, msgspec.Meta(pattern=kind.pattern, min_length=kind.min_length, max_length=kind.max_length)
    ]
