"""The shape of a profile file: every table and key, its type, default and meaning. No I/O, no trio.

The reader (`validate`), the JSON Schema and the tables of docs/profile.md are all derived from these types: a
key is added here, and given its effect in `compile`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

_Text = Annotated[str, Meta(min_length=1)]
_Target = Annotated[
    _Text | Annotated[list[_Text], Meta(min_length=1)],
    Meta(description="Path in the view, or a list of paths. Relative: to where vuos-run is started."),
]
_SourceOrTarget = Annotated[
    _Text,
    Meta(description="Path on the host. Relative: to this file's directory. Default: the target itself."),
]
_Source = Annotated[_Text, Meta(description="Path on the host. Relative: to this file's directory.")]
_Readonly = Annotated[bool, Meta(description="Changing anything at or below the target is EROFS.")]
_Optional = Annotated[bool, Meta(description="Leave the entry out when it has nothing to show.")]
_Size = Annotated[
    Annotated[int, Meta(ge=1, le=2**63 - 1)] | Annotated[str, Meta(pattern=r"^[0-9]+([KkMmGgTt](iB)?)?$")],
    Meta(description="Most that fits: bytes, or with a binary unit. Default: no limit.", examples=["64M"]),
]
_Mode = Annotated[
    str, Meta(pattern=r"^[0-7]{1,5}$", description="Permissions of the directory, octal.", examples=["0700"])
]
_Tree = Annotated[
    _Text,
    Meta(
        description="Directory of the host that is shown. Relative: to this file's directory. "
        "Default: what is at the target, from earlier entries or from the host."
    ),
]
_Trees = Annotated[
    list[_Text],
    Meta(
        min_length=1,
        description="Directories of the host, the topmost first. Relative: to this file's directory.",
    ),
]
_Store = Annotated[
    _Text,
    Meta(
        description="Directory that the layer is kept in. Relative: to this file's directory. "
        "Default: `$XDG_STATE_HOME/vuos` (`~/.local/state/vuos`)."
    ),
]
_LayerSize = Annotated[
    Annotated[int, Meta(ge=1, le=2**63 - 1)] | Annotated[str, Meta(pattern=r"^[0-9]+([KkMmGgTt](iB)?)?$")],
    Meta(
        description="Most that the layer may hold: bytes, or with a binary unit. An ephemeral one is then "
        "kept in memory. Default: no limit."
    ),
]
_Ephemeral = Annotated[bool, Meta(description="A layer of this run alone, gone when the session ends.")]
_Except = Annotated[
    list[_Text],
    Meta(description="Paths that stay the real ones: relative to the target, or absolute and in it."),
]
_Fsync = Annotated[
    Literal["yes", "no"],
    Meta(
        description="Whether a file is on the disk before it takes the place of the one it was copied from. "
        "Without, a power failure may cost such a file, though never one that the program has synced."
    ),
]
_FilesystemType = Annotated[
    _Text,
    Meta(
        description="Its type, as for `vumount -t`: one of ours or of a plugin, `module:Class`, the path of "
        "a .py file (relative: to this file's directory), or `fuse.PROGRAM`."
    ),
]
_FilesystemSource = Annotated[
    str,
    Meta(
        description="What the type takes: an image, a directory, an address. What is there as a path is one; "
        "relative: to this file's directory."
    ),
]
_Options = Annotated[str, Meta(description="As after `vumount -o`, with commas.", examples=["ro,offset=1M"])]
_Slash = Annotated[str, Meta(pattern=r"^/$", description="The root, always.")]


class _Table(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class Bind(_Table, tag="bind", tag_field="type"):
    """Show a file or directory of the host. The target need not exist on the host."""

    target: _Target
    source: _SourceOrTarget | UnsetType = UNSET
    readonly: _Readonly = False
    optional: _Optional = False


class Move(Bind, tag="move", tag_field="type"):
    """The same as `bind`, by the name that VUOS has for it."""


class Ro(_Table, tag="ro", tag_field="type"):
    """Make read-only what earlier entries, or the host, show here, with everything below."""

    target: _Target
    optional: _Optional = False


class Hide(_Table, tag="hide", tag_field="type"):
    """Make it absent: not listed, ENOENT. What does not exist anyway is no error."""

    target: _Target


class Tmpfs(_Table, tag="tmpfs", tag_field="type"):
    """An empty private directory that is gone when the session ends."""

    target: _Target
    size: _Size | UnsetType = UNSET
    mode: _Mode = "1777"


class Root(_Table, tag="root", tag_field="type"):
    """Another system's root file system in place of the host's. /dev, /proc and /sys stay the host's."""

    source: _Source
    target: _Slash = "/"
    readonly: _Readonly = False


class Cow(_Table, tag="cow", tag_field="type"):
    """Show a directory that can be changed while it stays as it is: what is written goes to a *layer*."""

    target: _Target
    source: _Tree | UnsetType = UNSET
    except_: _Except = msgspec.field(default_factory=list, name="except")
    store: _Store | UnsetType = UNSET
    size: _LayerSize | UnsetType = UNSET
    ephemeral: _Ephemeral = False
    fsync: _Fsync = "no"
    optional: _Optional = False


class Mincow(Cow, tag="mincow", tag_field="type"):
    """As `cow`, but only for what you may not change: all else is written to the real tree."""


class Merge(_Table, tag="merge", tag_field="type"):
    """Show several directories as one: of each name the topmost, directories merged."""

    target: _Target
    source: _Trees
    writable: Annotated[
        bool, Meta(description="Changes go to the first source; those of what is in another are EROFS.")
    ] = False


class Unreal(_Table, tag="unreal", tag_field="type"):
    """The whole tree of the view again, below the target, and again below that (`/unreal/unreal`), with all
    that is mounted in it; no deeper. The target need not exist on the host.
    """

    target: Annotated[_Text, Meta(description="Path in the view.")] = "/unreal"
    readonly: _Readonly = False


class Filesystem(_Table):
    """A file system with a server of its own. The target need not exist on the host."""

    type: _FilesystemType
    target: _Target
    source: _FilesystemSource = ""
    options: _Options = ""


Mount = Bind | Move | Ro | Hide | Tmpfs | Root | Cow | Mincow | Merge | Unreal

_Name = Annotated[_Text, Meta(description="What `vuctl ps` shows. Default: the file's name.")]
_Enforce = Annotated[
    bool, Meta(description="Put the kernel's Landlock under the view, or refuse to start. Default: `false`.")
]
_Survive = Annotated[
    bool, Meta(description="Let the processes live on when vuos-run is killed by SIGKILL. Default: `false`.")
]
_Cwd = Annotated[
    _Text, Meta(description="Directory the command starts in. Relative: to where vuos-run is started.")
]


class ViewTable(_Table):
    """The view as a whole."""

    name: _Name | UnsetType = UNSET
    enforce: _Enforce | UnsetType = UNSET
    survive: _Survive | UnsetType = UNSET
    cwd: _Cwd | UnsetType = UNSET


class ControlTable(_Table):
    """What processes of the view may change of it while it runs."""

    allow: (
        Annotated[
            list[Literal["mount", "umount", "insmod", "rmmod", "view", "cow"]],
            Meta(
                description="What is granted: to mount, to unmount, to load and to unload modules, to start "
                "a view inside this one, to mount a cow. Left out: nothing with enforce = true, "
                "else everything."
            ),
        ]
        | UnsetType
    ) = UNSET


class EnvTable(_Table):
    """The command's environment: `unset` takes away, except what `keep` names; then `set` gives."""

    set: Annotated[dict[str, str], Meta(description="Variables to set.")] = {}
    unset: Annotated[list[_Text], Meta(description="Variables to take away; names or patterns.")] = []
    keep: Annotated[list[_Text], Meta(description="Variables that `unset` leaves; names or patterns.")] = []


_Module = Annotated[
    _Text,
    Meta(
        description="Its name, as for `vu_insmod`: that of a plugin, `module:Class`, or the path of a .py "
        "file (relative: to this file's directory)."
    ),
]
_ModuleOptions = Annotated[
    str, Meta(description="As after `vu_insmod -o`, with commas.", examples=["name=box"])
]
_Load = Annotated[
    bool,
    Meta(
        description="Load it before the command starts. Otherwise what it answers is only trapped, so that "
        "it can be loaded later."
    ),
]


class ModuleTable(_Table):
    """A plugin that answers system calls. Of several with one name the last counts."""

    name: _Module
    options: _ModuleOptions = ""
    load: _Load = True


class Profile(_Table):
    """A vuosd profile."""

    extends: Annotated[
        list[_Text], Meta(description="Profiles to build on: paths relative to this file, or names.")
    ] = []
    view: ViewTable = msgspec.field(default_factory=ViewTable)
    control: ControlTable = msgspec.field(default_factory=ControlTable)
    mount: Annotated[list[Mount], Meta(description="Entries of the view, in order: later wins.")] = []
    module: Annotated[list[ModuleTable], Meta(description="Modules of the view.")] = []
    env: EnvTable = msgspec.field(default_factory=EnvTable)
