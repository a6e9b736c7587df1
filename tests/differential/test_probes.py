"""Each probe prints the same in a view as natively: return values, errnos, order of checks, all stat fields,
what was left behind."""

import os

import pytest
from differential import explained, views
from harness.box import Box

LOOKUPS = ("stat", "access", "readlink", "statfs", "xattr", "handle", "inotify", "chdir")
CHANGES = ("names", "attributes")
ALONE = ("open", "pairs", "dirfd", "list", "create", "sockets", "proc", "exec", "roots")
PROBES = [
    *(("lookup", part) for part in LOOKUPS),
    *(("change", part) for part in CHANGES),
    *((name,) for name in ALONE),
]
LEFT_OUT = {(("exec",), views.COW)}
"""Of a script that its user may not read the kernel opens the interpreter, below the cow; and argv and envp
that cannot be read are found out after the program."""
CASES = [
    pytest.param(probe, variant, id=f"{'-'.join(probe)}-{variant}")
    for probe in PROBES
    for variant in views.ALL
    if (probe, variant) not in LEFT_OUT
]
SHOWN = 60
CHAINS_AGAIN = 5


def _may_chroot(box: Box) -> dict[str, object]:
    """In a view chroot needs no privilege: what it must be like is what it is natively for one who may."""
    if box.identity.uid == 0:
        return {}
    if os.geteuid() != 0:
        pytest.skip("only root can run the model: an unprivileged user with CAP_SYS_CHROOT")
    ids = [f"--reuid={box.identity.uid}", f"--regid={box.identity.gid}", "--clear-groups"]
    return {"outer": ["setpriv", *ids, "--inh-caps=+sys_chroot", "--ambient-caps=+sys_chroot", "--"]}


def _differences(box: Box, bench: views.Bench, probe: tuple[str, ...], variant: views.Variant) -> list[str]:
    argv = [box.programs.probe(probe[0]), *probe[1:]]
    native = bench.native(argv, variant, **(_may_chroot(box) if probe == ("roots",) else {}))
    inside = bench.inside(variant, argv)
    assert native.stdout.count("\n") > 20, native
    assert "SETUP" not in native.stdout, native.stdout[-300:]
    said = explained.heard(inside.stderr, variant.name)
    assert (inside.returncode, said) == (native.returncode, native.stderr), inside.stderr[-2000:]
    return explained.unexplained(
        views.differences(
            explained.mask(native.stdout, variant.name), explained.mask(inside.stdout, variant.name)
        ),
        variant.name,
    )


@pytest.mark.kernel
@pytest.mark.tmpfs
@pytest.mark.parametrize(("probe", "variant"), CASES)
def test_same_as_natively(box: Box, probe: tuple[str, ...], variant: views.Variant) -> None:
    """Long chains of links are looked at again: a lookup without locks that a mount anywhere on the machine
    upsets is made anew with them, but goes on counting its links, and 40 are reached too soon (legitimize_mnt
    in fs/namespace.c; path_openat and set_nameidata in fs/namei.c). What differs each time is no accident.
    """
    bench = views.Bench(box)
    found = _differences(box, bench, probe, variant)
    for _ in range(CHAINS_AGAIN):
        if not found or not all("chain" in line for line in found):
            break
        again = _differences(box, bench, probe, variant)
        found = [line for line in found if line in again]
    if found:
        more = f"\n… {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        pytest.fail(f"{len(found)} lines differ:\n" + "\n".join(found[:SHOWN]) + more)
