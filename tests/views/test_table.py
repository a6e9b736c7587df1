"""flatten against a model that asks all entries in order about every path."""

import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vuosd.views import Entry, Kind, flatten
from vuosd.views.table import host_paths, in_kernel_directory, lookup

HIDDEN = ("hidden",)
OWN = ("TMPFS", "FILESYSTEM")
"""Kinds whose content is no tree of the host."""


def below(path: bytes, target: bytes) -> bool:
    return target == b"/" or path == target or path.startswith(target + b"/")


def rest(path: bytes, target: bytes) -> bytes:
    return path[len(target) :].lstrip(b"/")


def joined(source: bytes, tail: bytes) -> bytes:
    return source.rstrip(b"/") + b"/" + tail if tail else source


class State:
    """What a path is after some entries: what lies there, if it is read-only, which target decided."""

    def __init__(self, path: bytes) -> None:
        self.what: tuple[object, ...] = ("host", path)
        self.readonly = False
        self.target = b""
        self.layered = False  # what a cow shows can be frozen even where nothing lies below it

    def visible(self) -> tuple[object, ...]:
        return self.what if self.what == HIDDEN else (*self.what, self.readonly)


def model(entries: list[Entry], path: bytes) -> State:
    """Later wins; RO keeps what is there."""
    state = State(path)
    for index, entry in enumerate(entries):
        target = entry.target
        if not below(path, target):
            continue
        if target == b"/" and entry.kind is not Kind.HIDE and in_kernel_directory(path):
            if entry.kind is not Kind.RO:
                state = State(path)
            continue
        tail = rest(path, target)
        if entry.kind is Kind.RO:
            there = model(entries[:index], target)
            empty = there.what in (HIDDEN, ("host",)) and not (there.layered and there.target == target)
            nowhere = empty or (there.what[0] in OWN and there.target != target)
            # An RO of what lies nowhere can only freeze what was put below it.
            if not nowhere or len(state.target) > len(target):
                state.readonly = True
            continue
        state = State(path)
        state.target, state.readonly = target, entry.readonly
        state.layered = entry.kind is Kind.COW
        if entry.kind is Kind.HIDE:
            state.what = HIDDEN
        elif entry.kind.name in OWN:
            state.what = (entry.kind.name, target, tail)
        elif entry.source is None:
            there = model(entries[:index], target)
            found = there.what[1:] if there.what[0] == "host" else ()
            state.what = ("host", *(joined(one, tail) for one in found if isinstance(one, bytes)))
        else:
            state.what = ("host", *(joined(source, tail) for source in entry.sources))
    return state


def by_table(table: tuple[Entry, ...], path: bytes) -> tuple[object, ...]:
    entry = lookup({entry.target: entry for entry in table}, path)
    if entry is None:
        return ("host", path, False)
    if entry.kind is Kind.HIDE:
        return HIDDEN
    if entry.kind.name in OWN:
        return (entry.kind.name, entry.target, rest(path, entry.target), entry.readonly)
    return ("host", *host_paths(entry, path), entry.readonly)


NAMES = st.sampled_from([b"a", b"b", b"ab", b"dev", b"proc"])
PATHS = st.lists(NAMES, max_size=4).map(lambda names: b"/" + b"/".join(names))


@st.composite
def one_entry(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(list(Kind)))
    target = draw(PATHS)
    source = None
    if kind in (Kind.BIND, Kind.ROOT, Kind.MERGE) or (kind is Kind.COW and draw(st.booleans())):
        source = draw(PATHS)
    more = (draw(PATHS),) if kind is Kind.MERGE else ()
    readonly = draw(st.booleans()) if source else False
    if kind is Kind.HIDE and target == b"/":
        target = b"/a"  # `load` refuses to hide everything
    return Entry(kind, b"/" if kind is Kind.ROOT else target, source, more, readonly=readonly)


@example(
    entries=[
        Entry(Kind.TMPFS, b"/"),
        Entry(Kind.COW, b"/"),
        Entry(Kind.BIND, b"/a/a", b"/"),
        Entry(Kind.RO, b"/a"),
    ],
    paths=[b"/a/a/b"],
)
@settings(max_examples=600, deadline=None)
@given(entries=st.lists(one_entry(), max_size=10), paths=st.lists(PATHS, min_size=1, max_size=12))
def test_agrees_with_the_model(entries: list[Entry], paths: list[bytes]) -> None:
    table = flatten(entries)
    for path in [*paths, *(entry.target for entry in entries)]:
        assert by_table(table, path) == model(entries, path).visible(), path


@settings(max_examples=200, deadline=None)
@given(st.lists(one_entry(), max_size=10))
def test_one_entry_a_target_and_no_ro(entries: list[Entry]) -> None:
    table = flatten(entries)
    targets = [entry.target for entry in table]
    assert len(targets) == len(set(targets))
    assert all(entry.kind is not Kind.RO for entry in table)
    for entry in table:
        if entry.kind in (Kind.HIDE, Kind.COW):
            continue
        assert (entry.kind.name in OWN) == (entry.source is None)
        assert entry.kind is Kind.MERGE or not entry.more


def shown(*entries: Entry) -> dict[bytes, tuple[str, bytes | None, bool]]:
    return {entry.target: (entry.kind.name, entry.source, entry.readonly) for entry in flatten(entries)}


def test_what_a_ci_user_expects() -> None:
    """The system read-only, a private /tmp, the tree writable although it lies below /tmp, secrets away."""
    assert shown(
        Entry(Kind.RO, b"/"),
        Entry(Kind.TMPFS, b"/tmp"),
        Entry(Kind.BIND, b"/tmp/tree", b"/tmp/tree"),
        Entry(Kind.HIDE, b"/home/u/.ssh"),
    ) == {
        b"/": ("BIND", b"/", True),
        b"/dev": ("BIND", b"/dev", False),
        b"/proc": ("BIND", b"/proc", False),
        b"/sys": ("BIND", b"/sys", False),
        b"/tmp": ("TMPFS", None, False),
        b"/tmp/tree": ("BIND", b"/tmp/tree", False),
        b"/home/u/.ssh": ("HIDE", b"/home/u/.ssh", False),
    }


def test_ro_and_hide_inside_a_bind_follow_its_source() -> None:
    assert shown(
        Entry(Kind.BIND, b"/src", b"/home/u/project"),
        Entry(Kind.RO, b"/src/vendor"),
        Entry(Kind.HIDE, b"/src/vendor/.env"),
    ) == {
        b"/src": ("BIND", b"/home/u/project", False),
        b"/src/vendor": ("BIND", b"/home/u/project/vendor", True),
        b"/src/vendor/.env": ("HIDE", b"/home/u/project/vendor/.env", False),
    }


def test_ro_freezes_what_is_there_and_below() -> None:
    assert shown(
        Entry(Kind.TMPFS, b"/t"),
        Entry(Kind.BIND, b"/t/x", b"/x"),
        Entry(Kind.RO, b"/t"),
        Entry(Kind.RO, b"/t/y"),
    ) == {b"/t": ("TMPFS", None, True), b"/t/x": ("BIND", b"/x", True)}


def test_cow_copies_from_what_was_there() -> None:
    assert shown(
        Entry(Kind.BIND, b"/src", b"/home/u/project"),
        Entry(Kind.TMPFS, b"/src/build"),
        Entry(Kind.COW, b"/src"),
        Entry(Kind.BIND, b"/src/real"),
        Entry(Kind.HIDE, b"/src/.env"),
    ) == {
        b"/src": ("COW", b"/home/u/project", False),
        b"/src/real": ("BIND", b"/home/u/project/real", False),
        b"/src/.env": ("HIDE", b"/home/u/project/.env", False),
    }
    assert shown(Entry(Kind.RO, b"/"), Entry(Kind.COW, b"/srv")) == {
        b"/": ("BIND", b"/", True),
        b"/dev": ("BIND", b"/dev", False),
        b"/proc": ("BIND", b"/proc", False),
        b"/sys": ("BIND", b"/sys", False),
        b"/srv": ("COW", b"/srv", False),
    }


def test_cow_in_a_cow_copies_from_the_real_tree() -> None:
    assert shown(Entry(Kind.COW, b"/a", b"/x"), Entry(Kind.COW, b"/a/b")) == {
        b"/a": ("COW", b"/x", False),
        b"/a/b": ("COW", b"/x/b", False),
    }


def test_ro_of_a_merge_keeps_it_merged() -> None:
    merge = Entry(Kind.MERGE, b"/m", b"/x", (b"/y",))
    (one, other) = flatten([merge, Entry(Kind.RO, b"/m/d")])
    assert one == merge
    assert (other.kind, other.sources, other.readonly) == (Kind.MERGE, (b"/x/d", b"/y/d"), True)
    (cow,) = flatten([merge, Entry(Kind.COW, b"/m")])
    assert (cow.kind, cow.sources) == (Kind.COW, (b"/x", b"/y"))


def test_root_leaves_the_kernel_directories_unless_later_entries_say_otherwise() -> None:
    table = shown(
        Entry(Kind.BIND, b"/dev/early", b"/x"),
        Entry(Kind.ROOT, b"/", b"/alpine"),
        Entry(Kind.HIDE, b"/sys"),
        Entry(Kind.RO, b"/proc"),
    )
    assert table == {
        b"/": ("ROOT", b"/alpine", False),
        b"/dev": ("BIND", b"/dev", False),
        b"/proc": ("BIND", b"/proc", True),
        b"/sys": ("HIDE", b"/sys", False),
    }


def test_ten_thousand_entries_are_quick() -> None:
    wide = [Entry(Kind.BIND, b"/srv/%d/%d" % (n % 100, n), b"/x/%d" % n) for n in range(10_000)]
    alternating = [
        entry for n in range(5_000) for entry in (Entry(Kind.BIND, b"/%d" % n, b"/x"), Entry(Kind.RO, b"/"))
    ]
    for entries in (wide, alternating, [Entry(Kind.RO, entry.target) for entry in wide]):
        start = time.process_time()
        flatten(entries)
        assert time.process_time() - start < 0.5
