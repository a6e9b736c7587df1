"""Paths, which are bytes, as text: quoted as git quotes them, and as JSON strings. No I/O.

What is valid UTF-8 and printable stands for itself, as git writes it with core.quotePath=false; a path with
anything else, a quotation mark or a backslash in it is put in quotation marks, with C's escapes.
"""

_SHORT = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(path: bytes, *, ascii_only: bool = False) -> str:
    """The path as text. `ascii_only`: escape what is not ASCII too, as patches have it."""
    try:
        text = path.decode("ascii" if ascii_only else "utf-8")
        if text.isprintable() and '"' not in text and "\\" not in text:
            return text
    except UnicodeDecodeError:
        text = None
    if text is not None and not ascii_only:
        return '"' + "".join(map(_character, text)) + '"'
    return '"' + "".join(map(_byte, path)) + '"'


def _character(character: str) -> str:
    if character.isprintable() and character not in '"\\':
        return character
    return "".join(map(_byte, character.encode()))


def _byte(byte: int) -> str:
    return _SHORT.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")


def json_text(path: bytes) -> str:
    """The path as a string for JSON: a byte that is no UTF-8 becomes a lone surrogate, U+DC80 to U+DCFF."""
    return path.decode("utf-8", "surrogateescape")


def json_path(text: str) -> bytes:
    """The reverse of json_text(). UnicodeEncodeError: a surrogate that stands for no byte."""
    return text.encode("utf-8", "surrogateescape")
