"""Which types of file systems there are, and where each comes from.

In this order: the entry points `vuosd.filesystems` of installed packages (our own among them), by their
names and the names VUOS gave them; files NAME.py of the user's plugin directory; module:Class; the path of
a .py file. An entry point leads to a Filesystem, a pyfuse3.Operations or a FileSystemType. Nothing is
imported but FileSystemTypes, and those only when they are looked for."""

import os
from importlib.metadata import EntryPoint, entry_points

from vuosd.api.needs import OURS
from vuosd.api.types import FileSystemType, PythonType, TypeProblem

GROUP = "vuosd.filesystems"
MODULES = "vuosd.modules"

ALIASES = {
    "ext2": ("vufuseext2", "fuse-ext2", "fuseext2"),
    "ext3": (),
    "ext4": (),
    "fat": ("vufusefatfs", "vufusefat", "vfat"),
    "iso": ("vufuseiso", "vufuseiso9660", "iso9660"),
    "archive": ("vufusearchive",),
    "sshfs": ("vufusesshfs",),
    "real": ("vufusereal", "fusereal"),
    "memory": (),
}
"""VUOS's names (and what people call the same thing) of types of ours."""

READS = ("archive",)
"""Classes of ours that only read their source, a file."""


BUILT_IN = ("fuse", "vufuse", "unreal")
"""Modules of VUOS's names that have no code of their own here."""

_EXTRAS = {"ratarmountcore": "archive", "fsspec": "fsspec", "pyfuse3": "fuse"}
"""Which extra of ours brings a package."""


def plugin_directory() -> str:
    """Where the user's own plugins are: NAME.py is the type of file system, or the module, NAME."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "vuosd", "plugins")


def filesystems() -> dict[str, FileSystemType | TypeProblem]:
    """All types by name, without the foreign names. What cannot be loaded has its problem in its place."""
    found: dict[str, FileSystemType | TypeProblem] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = _of(point)
        except TypeProblem as problem:
            found[point.name] = problem
    for name in _files():
        found.setdefault(name, PythonType(name, os.path.join(plugin_directory(), f"{name}.py")))
    return found


def names() -> list[str]:
    """What `find` knows by name, foreign names too. Nothing is imported."""
    own = [point.name for point in entry_points(group=GROUP)] + _files()
    return own + [alias for ours in own for alias in ALIASES.get(ours, ())]


def find(name: str) -> FileSystemType:
    """The type of this name, or `module:Class`, or the path of a .py file. TypeProblem."""
    own = next((ours for ours, theirs in ALIASES.items() if name in theirs), name)
    for point in entry_points(group=GROUP, name=own):
        return _of(point)
    if own in _files():
        return PythonType(own, os.path.join(plugin_directory(), f"{own}.py"))
    if "/" in name:
        if not os.path.isfile(name.partition(":")[0]):
            raise TypeProblem(f"no such file: {name.partition(':')[0]}")
        return PythonType(os.path.basename(name).partition(".")[0], os.path.abspath(name))
    if ":" in name:
        return PythonType(name, name)
    raise unknown(name)


def modules() -> dict[str, str]:
    """The modules there are: those that are entry points, by name, with where each is. Nothing is imported.
    Files of the plugin directory may be modules, too: only their code tells."""
    return {point.name: point.value for point in entry_points(group=MODULES)}


def unknown_module(name: str) -> TypeProblem:
    """There is no such module; the nearest one is named."""
    import difflib  # only for those who have made a mistake

    known = sorted({*modules(), *_files(), *BUILT_IN})
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}, and module:Class"
    return TypeProblem(f"no module {name}; {hint}")


def missing(kind: str, spec: str, error: ImportError) -> str:
    """What a plugin, a "type" or a "module", needs and has not got; which extra of ours brings it, if one
    does."""
    package = (error.name or "").partition(".")[0]
    if package in _EXTRAS:
        return f"{kind} {spec} needs the package {package}: pip install 'vuosd[{_EXTRAS[package]}]'"
    itself = spec.partition(":")[0].partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package not in ("", itself):
        return f"{kind} {spec} needs the package {package}, which is not installed"
    return f"{spec} cannot be loaded: {error}"


def unknown(name: str) -> TypeProblem:
    """There is no such type; the nearest one is named, or all are."""
    import difflib  # only for those who have made a mistake

    close = difflib.get_close_matches(name, [*names(), "unreal"], n=1)
    known = {point.name for point in entry_points(group=GROUP)} | {*_files(), "unreal"}
    others = "module:Class, the path of a .py file, fuse.PROGRAM"
    hint = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(sorted(known))}; {others}"
    return TypeProblem(f'no file system type "{name}"; {hint}')


def _files() -> list[str]:
    try:
        names = os.listdir(plugin_directory())
    except OSError:
        return []
    return sorted(
        name.removesuffix(".py")
        for name in names
        if name.endswith(".py") and not name.startswith((".", "_", "test_"))
    )


def _of(point: EntryPoint) -> FileSystemType:
    """A file system's class is not imported, only told apart by its name: types are written as instances in
    lower case."""
    aliases = ALIASES.get(point.name, ())
    if point.attr[:1].isupper():
        ours = point.value.startswith("vuosd.plugins.")
        needs = OURS.get(point.name) if ours else None
        reads = ours and point.name in READS
        return PythonType(point.name, point.name, aliases, needs=needs, reads=reads)
    try:
        loaded = point.load()
    except Exception as error:
        raise TypeProblem(
            f"file system type {point.name} ({point.value}) cannot be loaded: {error!r}"
        ) from error
    if not isinstance(loaded, FileSystemType):
        raise TypeProblem(
            f"entry point {point.name} of {GROUP}: {point.value} is neither a class nor a FileSystemType"
        )
    loaded.aliases = loaded.aliases or aliases
    return loaded
