"""Hypothesis makes paths and sequences of calls over a tree; natively, the same sequence is the model."""

import functools
import operator
import os
from dataclasses import dataclass

import pytest
from differential import views
from harness.box import Box
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = (
    "file dir sub deep link dirlink dangling loop uplink windinglink homelink emptydir new new2 hard sticky"
)
COMPONENTS = [*NAMES.split(), ".", "..", ""]
OPEN = {
    "WRONLY": os.O_WRONLY,
    "RDWR": os.O_RDWR,
    "CREAT": os.O_CREAT,
    "EXCL": os.O_EXCL,
    "TRUNC": os.O_TRUNC,
    "APPEND": os.O_APPEND,
    "DIRECTORY": os.O_DIRECTORY,
    "NOFOLLOW": os.O_NOFOLLOW,
    "PATH": os.O_PATH,
    "TMPFILE": os.O_TMPFILE,
}

component = st.sampled_from(COMPONENTS)
# Never a leading "/": what begins there is no path in the tree.
relative = st.lists(component, min_size=1, max_size=6).map("/".join).map(lambda text: text.lstrip("/") or ".")


@dataclass(frozen=True)
class Call:
    name: str
    path: str
    path2: str
    number: int

    def line(self, home: str) -> str:
        words = [word.replace("$HOME", home) or "\\e" for word in (self.path, self.path2)]
        return "\t".join([self.name, *words, str(self.number)])


# Absolute paths go through the tree, so that nothing outside of it is changed; ".." from its top is in the
# test's own scratch directory.
path = st.one_of(
    relative,
    relative.map(lambda text: "$HOME/" + text.replace("..", ".")),
    relative.map(lambda text: "/proc/self/cwd/" + text.replace("..", ".")),
    st.tuples(st.integers(0, 7), relative).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    relative.map(lambda text: text + "/"),
).map(lambda text: text if text.count("..") < 2 else text.replace("..", "."))

flags = st.lists(st.sampled_from(sorted(OPEN)), max_size=3, unique=True).map(
    lambda names: functools.reduce(operator.or_, (OPEN[name] for name in names), 0)
)
call = st.one_of(
    st.builds(Call, st.just("open"), path, st.just(""), flags),
    st.builds(
        Call,
        st.sampled_from(["stat", "lstat", "readlink", "list", "chdir", "mkdir", "unlink", "rmdir"]),
        path,
        st.just(""),
        st.just(0),
    ),
    st.builds(Call, st.sampled_from(["access", "opendir"]), path, st.just(""), st.integers(0, 7)),
    st.builds(Call, st.just("rename"), path, path, st.sampled_from([0, 0, 1, 2])),
    st.builds(Call, st.just("link"), path, path, st.integers(0, 1)),
    st.builds(Call, st.just("symlink"), path, path, st.just(0)),
    st.builds(
        Call,
        st.just("chmod"),
        path.map(lambda text: text.replace("..", ".").replace("uplink", "link")),
        st.just(""),
        st.sampled_from([0o755, 0o700, 0o644, 0, 0o500]),
    ),
    st.builds(Call, st.just("truncate"), path, st.just(""), st.integers(0, 100)),
    st.builds(Call, st.just("openat2"), path, st.just(""), st.integers(0, 31)),
)


@pytest.mark.kernel
@pytest.mark.tmpfs
@pytest.mark.only("user", "me")  # random calls are nothing for root on a machine that others use
@pytest.mark.parametrize("variant", [views.UNRELATED, views.BIND], ids=str)
def test_sequences(box: Box, variant: views.Variant) -> None:
    bench = views.Bench(box)
    probe = box.programs.probe("sequence")
    home = str(bench.work / "tree")

    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.lists(call, min_size=5, max_size=40), min_size=1, max_size=1))
    def same(sequences: list[list[Call]]) -> None:
        text = "\n".join(call.line(home) for call in sequences[0]) + "\n"
        native = bench.native([probe], input=text)
        inside = bench.inside(variant, [probe], input=text)
        found = views.differences(native.stdout, inside.stdout)
        assert native.returncode == 0, native
        assert not found, "\n".join(found[:30])
        assert inside.returncode == 0, inside.stderr

    same()
