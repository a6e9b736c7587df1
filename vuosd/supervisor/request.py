"""What the launcher asks for, and the command it gets back: lists of NUL-terminated strings in memfds."""

import os
from collections.abc import Iterable, Sequence


class RequestError(ValueError):
    """The request is not one."""


class Request:
    """A run: profile, name, argument vector and environment, as bytes; and the working directory.

    `cow` are the paths of --cow, `on` and `store` those options' values, b"" for none.
    """

    __slots__ = ("arguments", "command", "cow", "cwd", "environment", "name", "on", "profile", "store")

    def __init__(self, content: bytes, cwd: bytes = b"/") -> None:
        words = content.split(b"\0")
        try:
            if words[0] != b"profile" or words[2] != b"name" or words.pop() != b"":
                raise RequestError("it does not begin as a request does")
            # There only when it says something; the daemon is asked thousands of times without.
            layer = words[6 : 6 + int(words[5])] if words[4] == b"layer" else []
            start = 6 + len(layer) if words[4] == b"layer" else 4
            count = int(words[start + 1])
            rest = len(words) - start - 4 - count
            if words[start] != b"argc" or words[start + 2 + count] != b"envc" or count < 1:
                raise RequestError("it does not go on as a request does")
            if int(words[start + 3 + count]) != rest:
                raise RequestError("its lists do not have the length that they say")
            self._take_layer(layer)
        except (IndexError, ValueError) as error:
            raise RequestError(str(error)) from None
        self.profile: bytes = words[1]
        self.name: bytes = words[3]
        self.arguments: list[bytes] = words[start + 2 : start + 2 + count]
        self.environment: list[bytes] = words[start + 4 + count :]
        # The command memfd has the very same lists: without rules for the environment nothing is built anew.
        self.command: bytes = content[sum(map(len, words[:start])) + start :]
        self.cwd: bytes = cwd

    @property
    def plain(self) -> bool:
        """Whether it asks for no view but the one in which everything is as outside."""
        return not (self.profile or self.cow or self.on)

    def _take_layer(self, words: list[bytes]) -> None:
        self.cow: list[bytes] = []
        self.on = self.store = b""
        for word in words:
            key, _, value = word.partition(b"=")
            if key == b"cow" and value:
                self.cow.append(value)
            elif key == b"on" and value:
                self.on = value
            elif key == b"store" and value:
                self.store = value
            else:
                raise RequestError(f"unknown option {word!r}")

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
