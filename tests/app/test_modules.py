"""Modules: plugins that answer system calls of real programs, loaded by a profile and while a view runs; and
what becomes of those that do wrong.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from harness import places, processes
from harness.box import Box, Result

pytestmark = pytest.mark.app

PYTHON = "/usr/bin/python3"


def plugin(box: Box, name: str, code: str) -> Path:
    head = "import errno, os, socket, struct, time\nimport trio\nfrom vuosd.api import *\n"
    return box.file(f"home/.local/share/vuosd/plugins/{name}.py", head + code)


def shell(box: Box, script: str, *arguments: object, profile: str | None = None) -> Result:
    words = ["sh", "-c", script, "sh", *map(str, arguments)]
    return box.view(words, profile, timeout=60)


def python(box: Box, code: str, *arguments: object, profile: str | None = None) -> str:
    """What a program in Python prints in a view."""
    result = box.view([PYTHON, "-c", code, *map(str, arguments)], profile, timeout=60).check()
    assert result.stderr == ""
    return result.stdout


def lines(result: Result) -> list[str]:
    result.check()
    return (result.stdout + result.stderr).splitlines()


NODENAME = '[[module]]\nname = "nodename"\noptions = "name=box"\n'


@pytest.mark.places(*places.ALL)
def test_uname_as_programs_see_it(box: Box) -> None:
    script = "uname -n; hostname; cat /proc/sys/kernel/hostname; uname -sr"
    real = os.uname()
    expected = ["box", "box", real.nodename, f"{real.sysname} {real.release}"]
    assert lines(shell(box, script, profile=NODENAME)) == expected


def test_loaded_and_unloaded_while_programs_run(box: Box) -> None:
    script = """
        exec 2>&1
        vu_lsmod; vu_rmmod nodename; uname -n
        vu_insmod -o name=other,domain=lab nodename; uname -n; hostname -y 2>/dev/null || dnsdomainname -y
        vu_insmod nodename; vu_rmmod nodename; vu_rmmod nodename; vu_lsmod
        vu_insmod -p -o name=last nodename; vu_rmmod nodename; uname -n
    """
    assert lines(shell(box, script, profile=NODENAME + "[view]\nname = 'v'\n")) == [
        "nodename: Another name for the machine, as uname(2) tells it",
        os.uname().nodename,
        "other",
        "lab",
        "vu_insmod: module nodename is loaded already",
        "vu_rmmod: module nodename is not loaded",
        "vu_rmmod: module nodename was loaded for good (-p)",
        "last",
    ]


def test_only_what_is_trapped_can_be_answered(box: Box) -> None:
    script = "vu_insmod nodename; uname -n"
    refused = shell(box, script)
    assert refused.stderr == (
        "vu_insmod: module nodename cannot be loaded: this view does not trap uname(2): name the module in "
        "the profile ([[module]])\n"
    )
    assert refused.stdout == os.uname().nodename + "\n"
    later = NODENAME + "load = false\n"
    assert lines(shell(box, f"uname -n; {script}; vu_rmmod nodename; vu_insmod -o name=x nodename; uname -n",
                       profile=later)) == [*[os.uname().nodename] * 2, "x"]  # fmt: skip


def test_what_is_wrong_in_a_profile(box: Box) -> None:
    for text, said in (
        ('name = "nodenam"', 'module "nodenam" cannot be loaded: no module nodenam; did you mean nodename?'),
        (
            'name = "nodename"\noptions = "nam=x"',
            'module "nodename" cannot be loaded: Nodename has no option "nam"; did you mean "name"?',
        ),
        ('name = "nodename"\noptions = "zzz=x"', 'has no option "zzz"; it has name, domain, deadline'),
        ('name = "nodename"\noptions = "deadline=soon"', 'option "deadline" cannot be "soon"'),
        ('name = "nodename"\noptions = "name="', '"" cannot be a name'),
        ('nam = "nodename"', 'unknown key "nam"'),
        ('name = "/nonexistent/x.py"', "no such file: /nonexistent/x.py"),
    ):
        result = box.view(["true"], f"[[module]]\n{text}\n")
        assert result.returncode == 125
        assert said in result.stderr, result.stderr
        checked = box.native([box.installation.bin / "vuctl", "check", box.profile(f"[[module]]\n{text}\n")])
        assert checked.returncode == 1
        assert said in checked.stderr, checked.stderr


PATHS = '''
class Virtual(Module):
    """A tree with one file, and a log of what is asked."""

    class Options(ModuleOptions):
        place: str

    def start(self):
        self.boundaries = (Paths((self.options.place,)),)

    def stat(self, call):
        top = self.options.place.encode()
        if call.path == top:
            return Stat.directory()
        if call.path == top + b"/file":
            return Stat(mode=0o100640, size=6, mtime_ns=1_000_000_000_123_456_789, uid=0, gid=0, ino=77)
        if call.path == top + b"/link":
            return Stat.link(b"file")
        if call.path.startswith(top + b"/real"):
            return PROCEED
        raise FileNotFoundError(errno.ENOENT, "none")

    def open(self, call):
        if call.path.endswith(b"/real"):
            return PROCEED
        if not call.path.endswith(b"/file"):
            raise OSError(errno.EACCES, "not this one")
        fd = os.memfd_create("file")
        os.write(fd, b"hello\\n")
        os.lseek(fd, 0, 0)
        return Descriptor(fd)

    def readlink(self, call):
        return b"file" if call.path.endswith(b"link") else PROCEED

    async def unlink(self, call):
        await trio.sleep(0.01)
        raise OSError(errno.EPERM, "never")
'''


@pytest.mark.places(*places.ALL)
def test_a_path_that_nothing_else_has(box: Box) -> None:
    place = box.scratch / "virtual"
    plugin(box, "virtual", PATHS)
    other = box.directory("other")
    (other / "link").symlink_to(place / "file")
    script = """
        cd $2; exec 2>&1
        stat -c '%A %s %Y %u %i %F' $1/file $1; cat $1/file; cat ../virtual/file; cat link
        readlink $1/link; cat $1/none; rm -f $1/file; ls $1/file; test -e $1/none || echo none
        cat $1/file >$2/copy; cat $2/copy
    """
    profile = f'[[module]]\nname = "virtual"\noptions = "place={place}"\n'
    result = shell(box, script, place, other, profile=profile)
    assert result.stdout.splitlines() == [
        "-rw-r----- 6 1000000000 0 77 regular file",
        *[line for line in result.stdout.splitlines() if line.startswith("dr-xr-xr-x ")],
        "hello", "hello", "hello",
        "file",
        f"cat: {place}/none: Permission denied",
        f"rm: cannot remove '{place}/file': Operation not permitted",
        f"{place}/file",
        "none",
        "hello",
    ]  # fmt: skip


@pytest.mark.places(*places.ALL)
def test_what_proceeds_is_as_without_the_module(box: Box) -> None:
    """On top of a real tree, of which a part is left to it; relative to descriptors as well."""
    place = box.directory("place")
    (place / "real").write_text("real\n")
    (place / "other").write_text("other\n")
    plugin(box, "virtual", PATHS)
    code = """
import os, sys
place = sys.argv[1]
print(open(place + "/real").read(), os.stat(place + "/real").st_size)
try:
    open(place + "/other")
except OSError as error:
    print(error.errno)
os.chdir(os.path.dirname(place))
here = os.open(".", os.O_RDONLY)
print(os.stat("place/real", dir_fd=here).st_size, os.stat("place/file", dir_fd=here).st_ino)
print(os.path.getsize(os.path.dirname(place) + "/place/../place/real"))
"""
    profile = f'[[module]]\nname = "virtual"\noptions = "place={place}"\n'
    assert python(box, code, place, profile=profile).split() == ["real", "5", "13", "5", "77", "5"]


def test_two_paths_and_programs(box: Box) -> None:
    place, other = box.directory("place"), box.directory("other")
    for name in ("a", "b"):
        (place / name).write_text(name + "\n")
    box.give(place)
    box.file("other/program", "#!/bin/sh\necho program\n", 0o755)
    plugin(box, "guard", '''
class Guard(Module):
    class Options(ModuleOptions):
        place: str

    def start(self):
        self.boundaries = (Paths((self.options.place,), ("rename", "link", "execve", "chdir")),)

    def rename(self, call):
        raise OSError(errno.EXDEV, "never")

    def link(self, call):
        return PROCEED

    def execve(self, call):
        if call.path.endswith(b"no"):
            raise OSError(errno.EACCES, "no")
        return PROCEED

    def chdir(self, call):
        raise OSError(errno.ENOTDIR, "no")
''')  # fmt: skip
    script = """
        exec 2>&1
        vu_insmod -o place=$1 guard
        mv -n $1/a $1/c && cat $1/c; ln $1/b $1/d && cat $1/d; cp $2/program $1/yes; cp $2/program $1/no
        $1/yes; $1/no || echo $?; cd $1 || echo refused; mkdir $1/sub && echo made
        vu_rmmod guard; cd $1 && $1/no
    """
    said = [line for line in shell(box, script, place, other).stdout.splitlines() if ": " not in line]
    assert said == ["a", "b", "program", "126", "refused", "made", "program"]  # mv(1) copies on EXDEV


DEVICES = """
class Devices(Module):
    boundaries = (Ioctls((0x1234, 0x5413)), Families((31, 44)))

    def ioctl(self, call):
        if call.args[1] & 0xFFFFFFFF == 0x5413:
            call.write(call.args[2], struct.pack("4H", 11, 22, 0, 0))
            return 0
        data = call.read(call.args[2], 4)
        call.write(call.args[2], data[::-1])
        return 42

    def socket(self, call):
        if call.args[0] == 44:
            raise OSError(errno.EPFNOSUPPORT, "")
        ours, theirs = socket.socketpair()
        ours.send(b"from the module")
        ours.close()
        return Descriptor(theirs.detach())
"""


@pytest.mark.places(*places.ALL)
def test_ioctls_and_families(box: Box) -> None:
    plugin(box, "devices", DEVICES)
    code = """
import array, fcntl, os, socket, termios
buffer = bytearray(b"abcd")
print(fcntl.ioctl(0, 0x1234, buffer), bytes(buffer))
print(os.get_terminal_size(0))
one, other = os.pipe()
os.write(other, b"12345")
print(array.array("i", fcntl.ioctl(one, termios.FIONREAD, bytes(4)))[0])  # another code: the kernel's
with socket.socket(31, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as s:
    print(os.read(s.fileno(), 100), os.get_inheritable(s.fileno()))
for family in (44, socket.AF_UNIX, socket.AF_INET):
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
        print(family, "made")
    except OSError as error:
        print(family, error.errno)
try:
    fcntl.ioctl(0, 0x1234, 8)  # no address
except OSError as error:
    print(error.errno)
"""
    answer = python(box, code, profile='[[module]]\nname = "devices"\n')
    assert answer.splitlines() == [
        "42 b'dcba'",
        "os.terminal_size(columns=22, lines=11)",
        "5",
        "b'from the module' False",
        "44 96",
        "1 made",
        "2 made",
        "14",
    ]


def test_mounts_of_a_type(box: Box) -> None:
    plugin(box, "wrap", '''
class Wrap(Module):
    boundaries = (Types(("wrapped",)),)

    def mount(self, request):
        if request.source == "no":
            raise OSError(errno.EINVAL, "not this source")
        return MountAs("memory", options="size=64k")
''')  # fmt: skip
    mnt = box.directory("mnt")
    script = """
        exec 2>&1
        vumount -t wrapped x $1; vu_insmod wrap; vumount -t wrapped no $1; vumount -t wrapped yes $1
        echo x >$1/file; cat $1/file; stat -f -c %T $1
        vu_rmmod wrap; vuumount $1; vu_rmmod wrap; vu_lsmod; ls $1
    """
    said = lines(shell(box, script, mnt))
    assert said[0] == 'vumount: no file system type "wrapped"; did you mean "wrap"?'  # wrap.py, a plugin
    assert said[1:] == [
        "vumount: module wrap: not this source",
        "x",
        "fuseblk",
        f"vu_rmmod: module wrap is in use: {mnt}",
    ]


WRONG = """
class Wrong(Module):
    class Options(ModuleOptions):
        how: str = ""

    boundaries = (Calls(("getpriority", "getpgid", "uname")),)

    def getpriority(self, call):
        how = self.options.how
        if how == "raise":
            return {}["nothing"]
        if how == "exit":
            raise SystemExit(3)
        if how == "die":
            os._exit(3)
        if how == "errno":
            raise OSError(5000, "no such errno")
        if how == "negative":
            return -1
        if how == "text":
            return "done"
        if how == "descriptor":
            return Descriptor(555)
        if how == "memory":
            call.read(8, 4)
        if how == "block":
            time.sleep(30)

    async def getpgid(self, call):
        await trio.sleep(30)

    def uname(self, call):
        return PROCEED
"""

ASKS = """
import os
try:
    print(os.getpriority(os.PRIO_PROCESS, 0))
except OSError as error:
    print(error.errno)
print(os.uname().sysname)
"""


@pytest.mark.private
@pytest.mark.parametrize(
    ("how", "number", "said"),
    [
        ("raise", 5, "KeyError: 'nothing' (wrong.py:14 in getpriority)"),
        ("exit", 5, "SystemExit: 3"),
        ("errno", 5, "raised an errno that there is not: OSError: [Errno 5000] no such errno"),
        ("negative", 5, "returned -1: a result is 0 to 2^63 - 1; errors are raised"),
        ("text", 5, "returned 'done', which is no result of getpriority"),
        ("descriptor", 5, "returned descriptor 555, which is not open"),
        ("memory", 14, ""),
    ],
)
def test_a_plugin_that_does_wrong(box: Box, how: str, number: int, said: str) -> None:
    plugin(box, "wrong", WRONG)
    profile = f'[[module]]\nname = "wrong"\noptions = "how={how}"\n'
    log = box.scratch / "home/log"
    result = box.view([PYTHON, "-c", ASKS], profile, env={"VUOSD_LOG": str(log)})
    assert result.check().stdout.splitlines() == [str(number), "Linux"]
    told = [line for line in log.read_text().splitlines() if "module wrong" in line] if log.exists() else []
    assert len(told) == bool(said), told
    assert all("module wrong: getpriority(2) by process" in line and said in line for line in told), told


def test_a_plugin_that_blocks(box: Box) -> None:
    """A `def` that hangs ends its module after the deadline; an `async def` itself. Other calls go on."""
    plugin(box, "wrong", WRONG)
    code = """
import os, sys, time
def timed(what):
    began = time.monotonic()
    try:
        said = what()
    except OSError as error:
        said = error.errno
    print(said, 0.4 < time.monotonic() - began < 5, flush=True)
timed(lambda: os.getpgid(0))                               # async: given up
for _ in range(3):
    if not os.fork():
        timed(lambda: os.getpgid(0))
        sys.stdout.flush()
        os._exit(0)
began = time.monotonic()
print(os.uname().sysname, os.stat("/").st_ino > 0, time.monotonic() - began < 0.4, flush=True)
for _ in range(3): os.wait()
timed(lambda: os.getpriority(0, 0))                        # def: the module ends
try:
    os.uname()
except OSError as error:
    print(error.errno)                                     # at once, from now on
"""
    profile = '[[module]]\nname = "wrong"\noptions = "how=block,deadline=0.5"\n'
    assert python(box, code, profile=profile).splitlines() == [
        "5 True", "Linux True True", "5 True", "5 True", "5 True", "5 True", "5",
    ]  # fmt: skip


@pytest.mark.private
def test_a_plugin_that_dies(box: Box) -> None:
    plugin(box, "wrong", WRONG)
    profile = '[[module]]\nname = "wrong"\noptions = "how=die"\n'
    log = box.scratch / "home/log"
    script = (
        f"{PYTHON} -c '{ASKS}' 2>&1 >/dev/null | tail -n 1; vu_lsmod; vu_rmmod wrong; {PYTHON} -c '{ASKS}'"
    )
    result = box.view(["sh", "-c", script], profile, env={"VUOSD_LOG": str(log)}).check()
    assert result.stdout.splitlines() == [
        "OSError: [Errno 5] Input/output error",
        "wrong:  (has ended: status 3)",
        str(os.getpriority(os.PRIO_PROCESS, 0)),
        "Linux",
    ]
    told = [line for line in log.read_text().splitlines() if "module wrong" in line]
    assert "module wrong has ended (status 3): what it answers is EIO until it is unloaded" in told[0]
    assert len(told) == 2, told  # and that it is unloaded


BUSY = """
class Busy(Module):
    boundaries = (Calls(("times", "uname")),)
    permanent = False

    async def times(self, call):
        await trio.sleep(float(os.environ.get("BUSY", "1")))
        return 7

    def uname(self, call):
        self.used = True
        return PROCEED

    def uses(self):
        return ["somebody's uname"] if hasattr(self, "used") else []

class Lasting(Busy):
    permanent = True
"""


def test_in_use(box: Box) -> None:
    path = plugin(box, "busy", BUSY)
    code = "import os; os.times()"
    script = f"""
        exec 2>&1
        vu_insmod {path}; vu_insmod {path}:Busy
        {PYTHON} -c '{code}' & sleep 0.4
        vu_rmmod {path}:Busy; wait; vu_rmmod {path}:Busy && echo unloaded
        vu_insmod {path}:Busy; uname >/dev/null; vu_rmmod {path}:Busy
        vu_insmod {path}:Lasting; vu_rmmod {path}:Lasting; vu_lsmod
    """
    profile = f'[[module]]\nname = "{path}:Busy"\nload = false\n'
    said = lines(shell(box, script, profile=profile))
    assert said[0] == f"vu_insmod: {path} defines Busy, Lasting; say which, as {path}:Busy"
    assert re.fullmatch(rf"vu_rmmod: module {path}:Busy is in use: times\(2\) of python3 \(\d+\)", said[1]), (
        said
    )
    assert said[2:] == [
        "unloaded",
        f"vu_rmmod: module {path}:Busy is in use: somebody's uname",
        f"vu_rmmod: module {path}:Lasting is permanent",
        f"{path}:Busy: ",
        f"{path}:Lasting: ",
    ]


def test_a_caller_that_is_killed(box: Box) -> None:
    """SIGKILL ends who waits for a module; the view's end ends the module."""
    path = plugin(box, "busy", BUSY)
    profile = f'[[module]]\nname = "{path}:Busy"\n'
    script = f"""
        {PYTHON} -c 'import os; os.times()' & sleep 0.5; kill -9 $!; wait $!; echo $?
    """
    began = time.monotonic()
    result = box.view(["sh", "-c", script], profile, env={"BUSY": "25"}).check()
    assert result.stdout == "137\n"
    assert time.monotonic() - began < 15


def test_what_cannot_be_loaded(box: Box) -> None:
    cases = {
        "none": ("x = 1", "none defines no subclass of vuosd.api.Module"),
        "syntax": ("def", "syntax cannot be loaded: SyntaxError: invalid syntax"),
        "needs": (
            "import no_such_package",
            "module needs needs the package no_such_package, which is not installed",
        ),
        "nothing": ("class A(Module): pass", "A has no boundaries: say which calls it answers"),
        "lacks": (
            "class A(Module):\n boundaries = (Calls(('uname',)),)",
            "A answers uname(2) and has no method uname",
        ),
        "unknown": (
            "class A(Module):\n boundaries = (Calls(('unam',)),)",
            'unknown cannot be loaded: ValueError: there is no system call "unam"; did you mean "uname"?',
        ),
        "refused": (
            "class A(Module):\n boundaries = (Calls(('io_uring_setup',)),)",
            "is refused in every view",
        ),
        "tty": ("class A(Module):\n boundaries = (Ioctls((0x5412,)),)", "TIOCSTI is refused in every view"),
        "relative": ("class A(Module):\n boundaries = (Paths(('x',)),)", '"x" is no absolute path'),
        "starts": (
            "class A(Module):\n boundaries = (Types(('x',)),)\n def start(self): raise ValueError('no disk')",
            "starts: no disk",
        ),
        "crashes": (
            "class A(Module):\n boundaries = (Types(('x',)),)\n def start(self): 1 / 0",
            "crashes: ZeroDivisionError: division by zero (crashes.py:6 in start)",
        ),
        "ends": ("os._exit(7)", "module ends: its process has ended before it was ready"),
    }
    for name, (code, _) in cases.items():
        plugin(box, name, code + "\n")
    result = shell(box, "exec 2>&1; for i; do vu_insmod $i; done; vu_lsmod; echo end", *cases)
    said = result.stdout.splitlines()
    assert len(said) == len(cases) + 1, result.stdout
    for line, (_, text) in zip(said, cases.values(), strict=False):
        assert text in line, line


def test_from_outside(box: Box) -> None:
    """vuctl insmod, lsmod, rmmod on a view that runs."""
    fifo = box.scratch / "go"
    os.mkfifo(fifo)
    box.give(box.scratch)
    view = box.popen_view(
        ["sh", "-c", f"echo on; read x <{fifo}; uname -n"], NODENAME, stdout=subprocess.PIPE
    )
    assert view.stdout is not None
    assert view.stdout.readline() == b"on\n"
    pid = next(entry.pid for entry in processes.descendants(view.pid) if entry.name == "sh")
    vuctl = [box.installation.bin / "vuctl"]
    assert box.native([*vuctl, "rmmod", str(pid), "nodename"]).check().stdout == ""
    assert box.native([*vuctl, "lsmod", str(pid)]).check().stdout == ""
    box.native([*vuctl, "insmod", str(pid), "-o", "name=outside", "nodename"]).check()
    assert box.native([*vuctl, "lsmod", str(pid)]).stdout.startswith("nodename: Another name")
    assert "modules:                 nodename (process " in box.native([*vuctl, "show", str(pid)]).stdout
    failed = box.native([*vuctl, "insmod", str(pid), "nodenam"])
    assert (failed.returncode, failed.stderr) == (1, "vuctl: no module nodenam; did you mean nodename?\n")
    fifo.write_text("go\n")
    assert view.stdout.read() == b"outside\n"
    assert view.wait(10) == 0


def test_what_nobody_claims_is_not_asked(box: Box) -> None:
    """The engine's own count of what Python was asked."""
    code = """
import os, sys
print(flush=True); sys.stdin.readline()
for _ in range(200):
    os.close(os.open("/usr/bin", os.O_RDONLY)); os.stat("/usr")
print(flush=True); sys.stdin.readline()
for _ in range(50):
    os.uname()
print(flush=True); sys.stdin.readline()
"""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    view = box.popen_view([PYTHON, "-c", code], NODENAME + '[view]\nname = "counted"\n', **streams)
    assert view.stdin is not None
    assert view.stdout is not None
    asked = []
    for _ in range(3):
        assert view.stdout.readline() == b"\n"
        shown = box.native([box.installation.bin / "vuctl", "show", "counted", "--json"]).check().stdout
        asked.append(json.loads(shown)["stats"]["asked"])
        view.stdin.write(b"\n")
        view.stdin.flush()
    assert view.wait(10) == 0
    assert (asked[1] - asked[0], asked[2] - asked[1]) == (0, 50)


def test_nested_views(box: Box) -> None:
    """Modules are the session's: a nested view has them, and paths are those of who asks."""
    place, other = box.directory("place"), box.directory("other")
    box.file("other/file", "other\n")
    plugin(box, "virtual", PATHS)
    profile = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{other}"\ntarget = "{place}"\n')
    modules = f'[[module]]\nname = "virtual"\noptions = "place={place}"\n' + NODENAME
    script = f"vuos-run --view={profile} -- sh -c 'uname -n; cat $1/file $2/file' sh $1 $2"
    assert lines(shell(box, script, place, other, profile=modules)) == ["box", "hello", "other"]
