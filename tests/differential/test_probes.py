"""Each probe prints the same in a view as natively: return values, errnos, order of checks, all stat fields, what was left behind."""

import pytest
from differential import views
from harness.box import Box

PROBES = [
    ("lookup", "stat"), ("lookup", "access"), ("lookup", "readlink"), ("lookup", "statfs"), ("lookup", "xattr"),
    ("lookup", "handle"), ("lookup", "inotify"), ("lookup", "chdir"), ("open",), ("change", "names"), ("change", "attributes"),
    ("pairs",), ("dirfd",), ("list",), ("create",), ("sockets",), ("proc",), ("exec",), ("roots",),
]  # fmt: skip
SHOWN = 60


@pytest.mark.kernel
@pytest.mark.tmpfs
@pytest.mark.parametrize("variant", views.ALL, ids=str)
@pytest.mark.parametrize("probe", PROBES, ids="-".join)
def test_same_as_natively(box: Box, probe: tuple[str, ...], variant: views.Variant) -> None:
    bench = views.Bench(box)
    argv = [box.programs.probe(probe[0]), *probe[1:]]
    native = bench.native(argv)
    inside = bench.inside(variant, argv)
    assert native.stdout.count("\n") > 20, native
    assert "SETUP" not in native.stdout, native.stdout[-300:]
    found = views.differences(native.stdout, inside.stdout)
    assert (inside.returncode, inside.stderr) == (native.returncode, native.stderr), inside.stderr[-2000:]
    if found:
        more = f"\n… {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        pytest.fail(f"{len(found)} lines differ:\n" + "\n".join(found[:SHOWN]) + more)
