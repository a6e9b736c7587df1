"""The floor's rules over a made-up tree, then the floor alone under the kernel, as root and as a user."""

import ctypes
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from errno import EACCES, EPERM, EROFS, EXDEV
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vuosd.abi import landlock
from vuosd.abi.landlock import ALL, DEVICE, READ
from vuosd.supervisor import floor
from vuosd.supervisor.floor import Child, Rule, rules
from vuosd.views.model import Entry, Kind

NOBODY = 65534


def bind(target: bytes, source: bytes | None = None, readonly: bool = False) -> Entry:
    return Entry(Kind.BIND, target, source or target, readonly=readonly)


def hide(target: bytes) -> Entry:
    return Entry(Kind.HIDE, target)


TREE: dict[bytes, dict[bytes, int]] = {
    b"/": dict.fromkeys([b"dev", b"etc", b"home", b"proc", b"tmp", b"usr"], stat.S_IFDIR)
    | {b"bin": stat.S_IFLNK},
    b"/home": {b"u": stat.S_IFDIR, b"v": stat.S_IFDIR},
    b"/home/u": {b".ssh": stat.S_IFDIR, b"notes": stat.S_IFREG, b"proj": stat.S_IFDIR, b"link": stat.S_IFLNK},
    b"/home/u/proj": {b"src": stat.S_IFDIR, b"secret": stat.S_IFREG},
    b"/dev": {
        b"null": stat.S_IFCHR,
        b"pts": stat.S_IFDIR,
        b"shm": stat.S_IFDIR,
        b"fd": stat.S_IFLNK,
        b"net": stat.S_IFDIR,
    },
    b"/dev/net": {b"tun": stat.S_IFCHR},
    b"/dev/shm": {b"x": stat.S_IFREG},
    b"/dev/pts": {b"0": stat.S_IFCHR},
    b"/home/v/up": {b"secret": stat.S_IFREG, b"new": stat.S_IFDIR},
    b"/srv/root": {b"bin": stat.S_IFDIR, b"etc": stat.S_IFDIR},
    b"/srv/root/etc": {b"shadow": stat.S_IFREG, b"passwd": stat.S_IFREG},
}


def tree(path: bytes) -> Iterator[Child]:
    if path not in TREE:
        raise FileNotFoundError(path)
    return (Child(name, kind) for name, kind in TREE[path].items())


def computed(*entries: Entry, **options: Any) -> dict[bytes, landlock.Access]:
    return dict(rules(entries, tree, **options))


def full(*paths: bytes) -> dict[bytes, landlock.Access]:
    return dict.fromkeys(paths, ALL)


TOP = (b"/dev", b"/etc", b"/proc", b"/tmp", b"/usr")
DEVICES = dict.fromkeys([b"/dev/null", b"/dev/pts", b"/dev/net/tun"], DEVICE)


def test_nothing_withheld() -> None:
    assert computed() == full(b"/")


def test_siblings_of_a_hidden_path() -> None:
    assert computed(hide(b"/home/u/.ssh")) == full(*TOP, b"/home/v", b"/home/u/notes", b"/home/u/proj")


def test_a_hidden_path_that_does_not_exist_splits_too() -> None:
    assert b"/home/u" not in computed(hide(b"/home/u/.aws"))


def test_something_shown_below_something_hidden() -> None:
    assert computed(hide(b"/home/u"), bind(b"/home/u/proj")) == full(*TOP, b"/home/v", b"/home/u/proj")


def test_readonly_keeps_devices() -> None:
    assert computed(bind(b"/", readonly=True)) == {b"/": READ} | DEVICES


def test_readonly_with_a_writable_part_is_not_split() -> None:
    """The writable part holds more rights than its surroundings, so nothing has to be cut out of them."""
    shown = computed(bind(b"/", readonly=True), bind(b"/home/u/proj"))
    assert shown == {b"/": READ, b"/home/u/proj": ALL} | DEVICES


def test_hidden_inside_writable_inside_readonly() -> None:
    shown = computed(bind(b"/", readonly=True), bind(b"/home/u/proj"), hide(b"/home/u/proj/secret"))
    assert shown[b"/home/u/proj/src"] == ALL
    assert shown[b"/home/v"] == shown[b"/home/u/.ssh"] == READ
    assert not {b"/", b"/home", b"/home/u", b"/home/u/proj", b"/home/u/proj/secret"} & set(shown)


def test_readonly_inside_writable_is_cut_out() -> None:
    shown = computed(bind(b"/usr", readonly=True))
    assert shown.pop(b"/usr") == READ
    assert shown == full(b"/dev", b"/etc", b"/proc", b"/tmp", b"/home")


def test_bind_withholds_what_it_covers_and_shows_its_source() -> None:
    shown = computed(bind(b"/home/u/.ssh", b"/srv/keys", readonly=True))
    assert shown[b"/srv/keys"] == READ
    assert b"/home/u/.ssh" not in shown
    assert b"/home/u" not in shown


def test_holes_in_a_bound_source() -> None:
    shown = computed(bind(b"/mnt", b"/srv/root"), hide(b"/mnt/etc/shadow"))
    assert shown[b"/srv/root/bin"] == shown[b"/srv/root/etc/passwd"] == ALL
    assert not {b"/srv", b"/srv/root", b"/srv/root/etc", b"/srv/root/etc/shadow"} & set(shown)


def test_trees_of_a_cow_are_read() -> None:
    """Nobody but the engine writes to them, nor to the layer, which only its changed tree is allowed of."""
    cow = Entry(Kind.COW, b"/home/u/proj", b"/home/u/proj")
    store = hide(b"/home/v")
    shown = computed(cow, store, hide(b"/home/u/proj/secret"), uppers={b"/home/u/proj": [b"/home/v/up"]})
    assert shown == full(*TOP, b"/home/u/.ssh", b"/home/u/notes") | {
        b"/home/u/proj/src": READ,
        b"/home/v/up/new": READ,
    }
    shown = computed(cow, store, hide(b"/home/u/proj/absent"), uppers={b"/home/u/proj": [b"/home/v/up"]})
    assert shown[b"/home/v/up"] == READ
    assert b"/home/u/proj" not in shown


def test_trees_of_a_merge_are_read_each() -> None:
    merge = Entry(Kind.MERGE, b"/usr", b"/srv/root", (b"/home/u/proj",))
    shown = computed(merge, hide(b"/usr/etc/shadow"), bind(b"/usr/src"))
    assert shown[b"/srv/root/bin"] == shown[b"/srv/root/etc/passwd"] == READ
    assert b"/srv/root/etc/shadow" not in shown
    assert shown[b"/home/u/proj/secret"] == READ
    assert shown[b"/usr/src"] == ALL
    assert b"/usr" not in shown


def test_foreign_root() -> None:
    shown = computed(Entry(Kind.ROOT, b"/", b"/srv/root"), bind(b"/proc"), bind(b"/dev"))
    assert shown == full(b"/srv/root/bin", b"/srv/root/etc", b"/proc", b"/dev")


def test_tmpfs_withholds_and_anchors_are_allowed() -> None:
    shown = computed(Entry(Kind.TMPFS, b"/tmp"), anchors=[b"/run/anchor"])
    assert shown == full(b"/dev", b"/etc", b"/home", b"/proc", b"/usr", b"/run/anchor")


def test_proc_is_never_split() -> None:
    assert computed(hide(b"/proc/1/environ"), bind(b"/proc/version", b"/etc/issue")) == full(
        b"/", b"/etc/issue"
    )
    assert b"/proc" not in computed(hide(b"/proc"))


def test_targets_are_resolved() -> None:
    assert b"/home" not in computed(
        hide(b"/shortcut"), resolve=lambda path: path.replace(b"/shortcut", b"/home")
    )


def test_unlistable_directory_on_the_way() -> None:
    def listdir(path: bytes) -> Iterator[Child]:
        if path == b"/home":
            raise PermissionError(path)
        return tree(path)

    assert b"/home/u/proj" in dict(rules([hide(b"/home/u/.ssh")], listdir))


def test_thousands_of_entries() -> None:
    shown = computed(*[hide(b"/home/u/%d" % number) for number in range(20_000)])
    assert b"/home/u/proj" in shown


@pytest.mark.parametrize(("abi", "says"), [(0, "has no Landlock"), (4, "has Landlock ABI 4")])
def test_a_kernel_without_it(monkeypatch: pytest.MonkeyPatch, abi: int, says: str) -> None:
    monkeypatch.setattr(floor, "kernel_abi", lambda: abi)
    with pytest.raises(floor.FloorUnavailable, match=f"needs Landlock ABI 6 .*{says}"):
        floor.ruleset([])


# Under the kernel.

needs_floor = pytest.mark.skipif(floor.kernel_abi() < floor.REQUIRED_ABI, reason="no Landlock ABI 6")


class Place(NamedTuple):
    """Files of the world outside: one directory hidden, one read-only, one free."""

    top: Path
    uid: int

    def entries(self) -> list[Entry]:
        return [hide(bytes(self.top / "home/hidden")), bind(bytes(self.top / "home/fixed"), readonly=True)]

    def child(self, probe: Callable[[], object], entries: list[Entry] | None = None) -> Any:
        """What `probe` returns in a process that has the floor and nothing else."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                if self.uid != os.getuid():
                    os.setgroups([])
                    os.setresgid(self.uid, self.uid, self.uid)
                    os.setresuid(self.uid, self.uid, self.uid)
                os.chdir("/")
                descriptor = floor.ruleset(self.entries() if entries is None else entries)
                assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
                floor._syscall(landlock.RESTRICT_SELF, descriptor, 0)
                os.write(writer, json.dumps(probe()).encode())
            except BaseException as error:
                os.write(writer, json.dumps(repr(error)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:
            data = answer.read()
        os.waitpid(child, 0)
        return json.loads(data)


@pytest.fixture(params=["root", "user"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("not root")
    uid = 0 if request.param == "root" else os.getuid() or NOBODY
    top = Path(tempfile.mkdtemp(prefix="vuosd-floor-"))
    home = top / "home"
    for name in ("hidden/deep", "fixed", "free", "free/more"):
        (home / name).mkdir(parents=True)
    for name in ("hidden/key", "hidden/deep/key", "fixed/tool", "free/notes", "free/more/notes"):
        (home / name).write_text("#!/bin/true\n")
        (home / name).chmod(0o755)
    (home / "free/to-hidden").symlink_to(home / "hidden/key")
    (home / "free/to-directory").symlink_to("../hidden")
    os.link(home / "hidden/key", home / "free/second-name")
    if uid != os.getuid():
        for directory, _, names in os.walk(top):
            for name in [directory, *(os.path.join(directory, name) for name in names)]:
                os.chown(name, uid, uid, follow_symlinks=False)
    yield Place(top, uid)
    shutil.rmtree(top)


def attempt(call: Callable[[], Any]) -> int:
    """0 or the errno."""
    try:
        result = call()
    except OSError as error:
        return error.errno or -1
    if isinstance(result, int) and result > 2:
        os.close(result)
    return 0


def opened(path: str | Path, flags: int = os.O_RDONLY, **options: Any) -> int:
    return attempt(lambda: os.open(path, flags, 0o600, **options))


@pytest.mark.kernel
@needs_floor
def test_hidden_by_any_name(place: Place) -> None:
    hidden = place.top / "home/hidden"

    def probe() -> dict[str, int]:
        o_path = os.open(hidden / "key", os.O_PATH)
        directory = os.open(hidden, os.O_PATH | os.O_DIRECTORY)
        os.chdir(hidden)  # Landlock does not govern it; the engine does
        return {
            "plain": opened(hidden / "key"),
            "for writing": opened(hidden / "key", os.O_WRONLY),
            "created": opened(hidden / "new", os.O_WRONLY | os.O_CREAT),
            "deep": opened(hidden / "deep/key"),
            "listed": opened(hidden, os.O_RDONLY | os.O_DIRECTORY),
            "relative to the working directory": opened("key"),
            "symlink": opened(place.top / "home/free/to-hidden"),
            "symlink to the directory": opened(place.top / "home/free/to-directory/key"),
            "dots": opened(f"{place.top}/home/free/../hidden/key"),
            "self root": opened(f"/proc/self/root{hidden}/key"),
            "self cwd": opened("/proc/self/cwd/key"),
            "parent's root": opened(f"/proc/{os.getppid()}/root{hidden}/key"),
            "reopened": opened(f"/proc/self/fd/{o_path}"),
            "at a directory": opened("key", dir_fd=directory),
            "truncated": attempt(lambda: os.truncate(hidden / "key", 0)),
            "executed": attempt(lambda: os.execv(hidden / "key", ["x"])),
            "linked": attempt(lambda: os.link(hidden / "key", place.top / "home/free/stolen")),
            "renamed": attempt(lambda: os.rename(hidden / "key", place.top / "home/free/stolen")),
            "moved whole": attempt(lambda: os.rename(hidden, place.top / "home/free/stolen")),
            "removed": attempt(lambda: os.unlink(hidden / "key")),
        }

    results = place.child(probe)
    assert {what: error for what, error in results.items() if error not in (EACCES, EXDEV)} == {}
    assert len(results) == 20
    assert (hidden / "key").exists()


@pytest.mark.kernel
@needs_floor
def test_a_hard_link_made_before_is_judged_where_it_lies(place: Place) -> None:
    """A fact of the kernel, stated in the module: what the engine must know of, the floor does not."""
    assert place.child(lambda: opened(place.top / "home/free/second-name")) == 0


@pytest.mark.kernel
@needs_floor
def test_readonly(place: Place) -> None:
    fixed = place.top / "home/fixed"

    def probe() -> dict[str, int]:
        return {
            "read": opened(fixed / "tool"),
            "list": opened(fixed, os.O_RDONLY | os.O_DIRECTORY),
            "write": opened(fixed / "tool", os.O_WRONLY),
            "append": opened(fixed / "tool", os.O_WRONLY | os.O_APPEND),
            "truncate": attempt(lambda: os.truncate(fixed / "tool", 0)),
            "create": opened(fixed / "new", os.O_WRONLY | os.O_CREAT),
            "make": attempt(lambda: os.mkdir(fixed / "new")),
            "symlink": attempt(lambda: os.symlink("x", fixed / "new")),
            "unlink": attempt(lambda: os.unlink(fixed / "tool")),
            "rename": attempt(lambda: os.rename(fixed / "tool", fixed / "other")),
            "execute": os.spawnv(os.P_WAIT, fixed / "tool", ["tool"]),
        }

    results = place.child(probe)
    assert [results.pop(name) for name in ("read", "list", "execute")] == [0, 0, 0]
    assert set(results.values()) == {EACCES}


@pytest.mark.kernel
@needs_floor
def test_what_is_free_stays_free(place: Place) -> None:
    free = place.top / "home/free"

    def probe() -> dict[str, int]:
        return {
            "write": opened(free / "notes", os.O_RDWR | os.O_TRUNC),
            "create": opened(free / "new", os.O_WRONLY | os.O_CREAT),
            "make": attempt(lambda: os.mkdir(free / "directory")),
            "move between directories": attempt(lambda: os.rename(free / "new", free / "more/new")),
            "link": attempt(lambda: os.link(free / "notes", free / "more/again")),
            "truncate": attempt(lambda: os.truncate(free / "notes", 3)),
            "unlink": attempt(lambda: os.unlink(free / "more/notes")),
            "null": opened("/dev/null", os.O_RDWR),
            "own files of /proc": opened("/proc/self/status"),
            "another process's": opened(f"/proc/{os.getppid()}/stat"),
            "descriptor by name": opened("/proc/self/fd/0"),
            "library": opened("/etc/passwd"),
            "spawn": os.spawnv(os.P_WAIT, "/bin/true", ["true"]),
        }

    assert {what: error for what, error in place.child(probe).items() if error} == {}


@pytest.mark.kernel
@needs_floor
def test_readonly_everything(place: Place) -> None:
    proj = place.top / "home/free"
    entries = [bind(b"/", readonly=True), bind(bytes(proj))]

    def probe() -> list[int]:
        return [
            opened(proj / "new", os.O_WRONLY | os.O_CREAT),
            opened("/dev/null", os.O_WRONLY),
            os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", "exit 7"]),
            opened(place.top / "home/hidden/key"),
            opened(place.top / "home/hidden/key", os.O_WRONLY),
            attempt(lambda: os.rename(proj / "notes", place.top / "home/notes")),
        ]

    assert place.child(probe, entries) == [0, 0, 7, 0, EACCES, EACCES]


@pytest.mark.kernel
@needs_floor
def test_signals_and_abstract_sockets_stay_inside(place: Place) -> None:
    name = f"\0vuosd-floor-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(name)
        outside.listen()

        def probe() -> list[int]:
            with socket.socket(socket.AF_UNIX) as inside:
                return [
                    attempt(lambda: os.kill(os.getppid(), 0)),
                    attempt(lambda: os.kill(os.getpid(), 0)),
                    attempt(lambda: inside.connect(name)),
                    opened(f"/proc/{os.getppid()}/mem"),
                ]

        assert place.child(probe) == [EPERM, 0, EPERM, EACCES]


@pytest.mark.kernel
@needs_floor
def test_descriptor_is_closed_when_a_rule_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> list[Rule]:
        raise OSError(EROFS, "x")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(floor, "_allow", fail)
    with pytest.raises(OSError, match="x"):
        floor.ruleset([])
    assert len(os.listdir("/proc/self/fd")) == before
