"""A foreign root file system: its programs run with its own loader, see its files, and know themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest
from harness.box import Box

pytestmark = [pytest.mark.app, pytest.mark.timeout(120)]

REPORT = r"""
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    printf("argv0=%s argc=%d exe=%s\n", argv[0], argc, path);
    return 7;
}
"""


def tree(box: Box) -> Path:
    """busybox, and a dynamic program whose loader and C library lie where only this root has them."""
    root = box.directory("root")
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc", "own/lib"):
        box.directory(f"root/{name}")
    busybox = shutil.which("busybox")
    assert busybox, "busybox is missing: tools/system-packages test installs it"
    shutil.copy2(busybox, root / "bin/busybox")
    for name in ("sh", "ls", "cat", "pwd", "readlink", "env"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/os-release").write_text("NAME=foreign\n")
    loader = subprocess.run(
        ["cc", "-print-file-name=ld-linux-x86-64.so.2"], capture_output=True, text=True, check=True
    )
    libc = subprocess.run(["cc", "-print-file-name=libc.so.6"], capture_output=True, text=True, check=True)
    shutil.copy2(Path(loader.stdout.strip()).resolve(), root / "own/lib/loader.so")
    shutil.copy2(Path(libc.stdout.strip()).resolve(), root / "own/lib/libc.so.6")
    flags = ("-Wl,--dynamic-linker=/own/lib/loader.so", "-Wl,-rpath,/own/lib")
    shutil.copy2(box.programs.source("report_root", REPORT, *flags), root / "bin/report")
    (root / "bin/script").write_text("#!/bin/report one\n")
    (root / "bin/script").chmod(0o755)
    return root


def profile(root: Path) -> str:
    return f'[view]\ncwd = "/"\n[[mount]]\ntype = "root"\nsource = "{root}"\n'


def test_it_is_the_whole_tree(box: Box) -> None:
    view = profile(tree(box))
    script = "pwd; ls /; cat /etc/os-release; readlink /proc/self/exe"
    out = box.view(["/bin/sh", "-ec", script], view).check()
    assert out.stdout.split() == [
        "/", "bin", "dev", "etc", "own", "proc", "sys", "tmp", "NAME=foreign", "/bin/busybox",
    ]  # fmt: skip
    assert box.view(["/bin/sh", "-c", "/usr/bin/git"], view).returncode == 127
    refused = box.view(["/usr/bin/git"], view)
    assert refused.returncode == 125
    assert "does not exist" in refused.stderr
    assert box.view(["cat", "/../../etc/os-release"], view).check().stdout == "NAME=foreign\n"


def test_dynamic_programs_and_scripts(box: Box) -> None:
    view = profile(tree(box))
    assert not Path("/own/lib/loader.so").exists(), "the loader must be the root's own"
    out = box.view(["report", "a", "b"], view)
    assert (out.returncode, out.stdout) == (7, "argv0=report argc=3 exe=/bin/report\n"), out
    out = box.view(["/bin/script", "x"], view)
    assert (out.returncode, out.stdout) == (7, "argv0=/bin/report argc=4 exe=/bin/report\n"), out


def test_chroot_needs_no_privilege(box: Box) -> None:
    root = tree(box)
    script = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); print(os.getcwd(), *os.listdir())"
    out = box.view([box.installation.python, "-c", script, str(root)]).check()
    assert sorted(out.stdout.split()) == ["/", "bin", "dev", "etc", "own", "proc", "sys", "tmp"]


def test_a_link_below_an_entry_whose_parents_the_view_covers(box: Box) -> None:
    tree, target = box.directory("deep/er/tree"), box.file("target", "found\n")
    (tree / "link").symlink_to(target)
    view = f'[[mount]]\ntype = "tmpfs"\ntarget = "{box.scratch}/deep"\n'
    view += f'[[mount]]\ntype = "bind"\nsource = "{tree}"\ntarget = "{tree}"\n'
    assert box.view(["cat", tree / "link"], view).check().stdout == "found\n"
