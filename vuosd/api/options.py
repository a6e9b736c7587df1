"""The options of a mount or a module, `-o size=64M,cached`, as a typed schema. No I/O, no trio.

A plugin declares a class of them; each field is an option, its annotation says what it may be, its
default what it is when left out. A field without a default must be given."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

Value = str | int | float | bool | list[str]
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class OptionError(ValueError):
    """What is wrong with the options of a mount, for a person."""


class Schema(msgspec.Struct, kw_only=True):
    """Options: each field is one. Types of fields: str, int (64M, 0o755 and 0755 are understood), float,
    bool (`cached`, `nocached`, `cached=no`), Literal["a", "b"], list[str] (the option given several times),
    and each of them `| None`."""


class MountOptions(Schema, kw_only=True):
    """Options that every file system has; what types fields can have says `Schema`."""

    ro: bool = False


class ModuleOptions(Schema, kw_only=True):
    """Options that every module has. deadline: seconds that one answer may take, after which it is EIO."""

    deadline: Annotated[float, msgspec.Meta(gt=0)] = 10.0


def take(text: str, wanted: str) -> tuple[str | None, str]:
    """One option taken out of the text after -o: its value ("" if it has none, None if it is not there),
    and what is left."""
    value = None
    left = []
    for name, given in split(text):
        if name == wanted:
            value = given or ""
        else:
            left.append(join({name: True if given is None else given}))
    return value, ",".join(left)


_Schema = TypeVar("_Schema", bound=Schema)


def split(text: str) -> list[tuple[str, str | None]]:
    """`a=1,b` → [("a", "1"), ("b", None)]. A comma or backslash of a value has a backslash before it, as
    for libfuse."""
    words: list[str] = [""]
    rest = iter(text)
    for character in rest:
        if character == "\\":
            words[-1] += next(rest, "\\")
        elif character == ",":
            words.append("")
        else:
            words[-1] += character
    pairs = (word.partition("=") for word in words if word)
    return [(name, value if equals else None) for name, equals, value in pairs]


def join(words: Mapping[str, Value | None]) -> str:
    """The text of -o for these options; None and False say that an option is left out."""
    parts = []
    for name, value in words.items():
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                parts.append(name)
            elif one is not None and one is not False:
                parts.append(f"{name}=" + str(one).replace("\\", "\\\\").replace(",", "\\,"))
    return ",".join(parts)


def decode(schema: type[_Schema], given: str | Mapping[str, Value], where: str) -> _Schema:
    """The options as the schema has them. `given` is the text after -o, or a table of a profile.

    OptionError says which one is wrong; `where` names the file system in it.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(schema)}
    pairs = split(given) if isinstance(given, str) else list(given.items())
    values: dict[str, object] = {}
    for word, text in pairs:
        name, value = _meant(word, text, fields, where)
        if isinstance(value, str):
            value = _number(value, fields[name].type)
        if _holds(fields[name].type, list) and not isinstance(value, list):
            listed = values.setdefault(name, [])
            assert isinstance(listed, list)
            listed.append(value)
        else:
            values[name] = value
    for field in fields.values():
        if field.required and field.encode_name not in values:
            raise OptionError(f"{where} needs the option {field.encode_name}=…")
    try:
        return msgspec.convert(values, schema, strict=False)
    except msgspec.ValidationError as error:
        raise OptionError(_said(str(error), values, where)) from None


def unknown(word: str, known: list[str], where: str) -> OptionError:
    """An option that there is not, with the nearest one there is."""
    import difflib  # only for those who have made a mistake

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        hint = f'did you mean "{close[0]}"?'
    else:
        hint = f"it has {', '.join(known)}" if known else "it has none"
    return OptionError(f'{where} has no option "{word}"; {hint}')


def _meant(word: str, text: Value | None, fields: dict[str, Any], where: str) -> tuple[str, Value]:
    """The field's name, and its value: `rw` is ro=false, `nocached` is cached=false."""
    name = word.replace("-", "_")
    negated = "ro" if name == "rw" else name.removeprefix("no")
    if name not in fields and text is None and negated in fields and fields[negated].type is bool:
        return negated, False
    if name not in fields:
        raise unknown(word, [*fields, *(["rw"] if "ro" in fields else [])], where)
    if text is None:
        if fields[name].type is not bool:
            raise OptionError(f'{where}: option "{word}" needs a value: {word}=…')
        return name, True
    if isinstance(text, str) and fields[name].type is bool:
        text = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower(), text)
    return name, text


def _number(text: str, kind: Any) -> str | int:
    """`64M` and `0755` for a field that is a number."""
    if not _holds(kind, int):
        return text
    digits, unit = (text[:-1], _UNITS.get(text[-1:].lower(), 0)) if text[-1:].isalpha() else (text, 1)
    try:
        octal = digits.startswith("0") and digits.isdigit()
        return int(digits, 8 if octal else 0) * unit if unit else text
    except ValueError:
        return text


def _holds(kind: Any, wanted: type) -> bool:
    """Whether an annotation is a type, or has it for an alternative: int | None, Annotated[int, …]."""
    return wanted in (kind, get_origin(kind)) or any(_holds(one, wanted) for one in get_args(kind))


def _said(message: str, values: dict[str, object], where: str) -> str:
    """msgspec says: Expected `int`, got `str` - at `$.size`."""
    reason, _, path = message.partition(" - at `$.")
    name = path.rstrip("`").partition("[")[0]
    reason = reason[:1].lower() + reason[1:].replace("`", "")
    if name not in values:
        return f"{where}: {reason}"
    return f'{where}: option "{name}" cannot be "{values[name]}": {reason}'
