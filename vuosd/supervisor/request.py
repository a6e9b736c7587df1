"""What the launcher asks for, and the command it gets back: lists of NUL-terminated strings in memfds."""

import os
from collections.abc import Iterable, Sequence


class RequestError(ValueError):
    """The request is not one."""


class Request:
    """A run: profile, name, argument vector and environment, as bytes; and the working directory as text."""

    __slots__ = ("arguments", "command", "cwd", "environment", "name", "profile")

    def __init__(self, content: bytes, cwd: bytes = b"/") -> None:
        words = content.split(b"\0")
        try:
            if words[0] != b"profile" or words[2] != b"name" or words[4] != b"argc" or words.pop() != b"":
                raise RequestError("it does not begin as a request does")
            count = int(words[5])
            if words[6 + count] != b"envc" or int(words[7 + count]) != len(words) - 8 - count or count < 1:
                raise RequestError("its lists do not have the length that they say")
        except (IndexError, ValueError) as error:
            raise RequestError(str(error)) from None
        self.profile: bytes = words[1]
        self.name: bytes = words[3]
        self.arguments: list[bytes] = words[6 : 6 + count]
        self.environment: list[bytes] = words[8 + count :]
        # The command memfd has the very same lists: without rules for the environment nothing is built anew.
        self.command: bytes = content[sum(map(len, words[:4])) + 4 :]
        self.cwd: bytes = cwd

    def variables(self) -> dict[str, str]:
        """The environment as a mapping; of a name that comes twice the first counts, as for getenv(3)."""
        found: dict[str, str] = {}
        for text in self.environment:
            name, equals, value = os.fsdecode(text).partition("=")
            if equals:
                found.setdefault(name, value)
        return found


def command(arguments: Sequence[bytes], environment: Sequence[bytes]) -> bytes:
    """The content of the command memfd."""
    return b"".join((_list(b"argc", arguments), _list(b"envc", environment)))


def _list(key: bytes, words: Sequence[bytes]) -> bytes:
    return b"\0".join([key, b"%d" % len(words), *words, b""])


def pairs(variables: Iterable[tuple[str, str]]) -> list[bytes]:
    return [os.fsencode(f"{name}={value}") for name, value in variables]


def read(request: int, cwd: int) -> Request:
    """From the two descriptors of a RUN message."""
    content = os.pread(request, os.fstat(request).st_size, 0)
    return Request(content, os.readlink(b"/proc/self/fd/%d" % cwd))
