"""A profile by name or path to a View: finds the files it extends, reads each once, reports all mistakes. No
trio; the only I/O is the `read` that the caller gives.
"""

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping

from vuosd.views.compile import Compiler, normal
from vuosd.views.document import Document, parse
from vuosd.views.errors import ProfileError, ProfileErrors, printable, quote
from vuosd.views.model import Source, View
from vuosd.views.validate import Checked, Types, check, no_types
from vuosd.views.variables import expand

SYSTEM_DIRECTORY = b"/etc/vuos"

Read = Callable[[bytes], bytes]


def load(path: bytes, *, env: Mapping[str, str], cwd: bytes, read: Read, types: Types = no_types) -> View:
    """The view that a profile describes. Raises ProfileErrors with everything that is wrong with it and what
    it extends.

    `path` is a path, with or without .toml, or a bare name that is then also looked for in the user's and the
    system's directory. `env` and `cwd` are those of the command; `read` returns a file's content or raises
    OSError. `types` gives the names of types of file systems.
    """
    loader = _Loader(env, cwd, read, types)
    top = loader.open(_candidates(path, b"", env))
    if isinstance(top, ProfileError):
        raise ProfileErrors([top])
    if isinstance(top, _Missing):
        raise ProfileErrors([ProfileError(path, 0, 0, "no such profile", top.hint)])
    loader.visit(top[0], top[1], ())
    compiler = Compiler(env, cwd)
    for checked in loader.files:
        compiler.add(checked)
    compiler.finish()
    errors = [*loader.errors, *compiler.errors]
    if errors:
        order = {source.path: index for index, source in enumerate(reversed(loader.sources))}
        raise ProfileErrors(sorted(errors, key=lambda e: (order.get(e.path, -1), e.line, e.column)))
    stem = posixpath.basename(top[0]).removesuffix(b".toml")
    return View(
        name=compiler.name or os.fsdecode(stem),
        enforce=compiler.enforce,
        keep_tree=compiler.survive,
        allow=compiler.grants(),
        entries=tuple(compiler.entries),
        env=compiler.env_rules(),
        cwd=compiler.cwd,
        sources=tuple(loader.sources),
        modules=tuple(compiler.modules.values()),
    )


class _Missing:
    """No candidate exists; says where was looked."""

    def __init__(self, tried: list[bytes]) -> None:
        self.hint = "looked for " + ", ".join(printable(os.fsdecode(path)) for path in tried)


class _Loader:
    def __init__(self, env: Mapping[str, str], cwd: bytes, read: Read, types: Types) -> None:
        self.env = env
        self.cwd = cwd
        self.read = read
        self.types = types
        self.errors: list[ProfileError] = []
        self.files: list[Checked] = []  # parents before children
        self.sources: list[Source] = []
        self.seen: set[bytes] = set()

    def open(self, candidates: Iterator[bytes]) -> tuple[bytes, bytes] | ProfileError | _Missing:
        """Path and content of the first candidate that exists."""
        tried = []
        for path in candidates:
            try:
                return path, self.read(posixpath.join(self.cwd, path))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                tried.append(path)
            except OSError as error:
                return ProfileError(path, 0, 0, f"cannot be read: {error.strerror or error}")
        return _Missing(tried)

    def visit(self, path: bytes, content: bytes, chain: tuple[bytes, ...]) -> None:
        """Reads one file and, before it, what it extends. A file reached twice counts where it came first."""
        self.seen.add(normal(path, self.cwd))
        document = parse(path, content)
        if isinstance(document, ProfileError):
            self.errors.append(document)
            return
        checked, errors = check(document, self.types)
        self.errors += errors
        for index, name in enumerate(checked.profile.extends):
            self.extend(document, index, name, (*chain, path))
        self.files.append(checked)
        self.sources.append(Source(path, document.text))

    def extend(self, document: Document, index: int, text: str, chain: tuple[bytes, ...]) -> None:
        at = ("extends", index)
        name, problems = expand(text, self.env)
        for problem in problems:
            where = document.inside(at, problem.offset, problem.length)
            self.errors.append(document.error(where, problem.message, problem.hint))
        if problems:
            return
        where = document.position(at)
        found = self.open(_candidates(os.fsencode(name), posixpath.dirname(document.path), self.env))
        if isinstance(found, _Missing):
            self.errors.append(document.error(where, f"no profile {quote(name)}", found.hint))
        elif isinstance(found, ProfileError):
            said = f"{printable(os.fsdecode(found.path))} {found.message}"
            self.errors.append(document.error(where, said))
        elif normal(found[0], self.cwd) in [normal(path, self.cwd) for path in chain]:
            names = " → ".join(printable(os.fsdecode(path)) for path in (*chain, found[0]))
            self.errors.append(document.error(where, f"a profile cannot extend itself: {names}"))
        elif len(chain) >= 64:
            self.errors.append(document.error(where, "more than 64 profiles extend one another"))
        elif normal(found[0], self.cwd) not in self.seen:
            self.visit(found[0], found[1], chain)


def _candidates(name: bytes, directory: bytes, env: Mapping[str, str]) -> Iterator[bytes]:
    """Where a profile may lie, in the order in which it is looked for."""
    path = posixpath.join(directory, name)
    yield path
    if not name.endswith(b".toml"):
        yield path + b".toml"
    if b"/" in name:
        return
    file = name if name.endswith(b".toml") else name + b".toml"
    config = env.get("XDG_CONFIG_HOME") or (env["HOME"] + "/.config" if env.get("HOME") else "")
    if config:
        yield posixpath.join(os.fsencode(config), b"vuos", file)
    yield posixpath.join(SYSTEM_DIRECTORY, file)
