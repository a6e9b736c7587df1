"""What holds in a layer while it changes, and after everything has been killed."""

import json
import os
import shlex
import signal
import subprocess

import pytest
from app.test_layers import COW, layers, run, tree, vuctl
from harness import places, processes
from harness.box import Box

pytestmark = pytest.mark.app

NUMBERS = """
import ctypes, json, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def statx(path):
    room = ctypes.create_string_buffer(256)
    assert libc.syscall(332, -100, path.encode(), 0x100, 0xfff, room) == 0
    ino, = struct.unpack_from('Q', room, 32)
    major, minor = struct.unpack_from('II', room, 136)
    return os.makedev(major, minor), ino
def numbers():
    found = {}
    for directory, directories, files in os.walk('.'):
        listed = {entry.name: entry.inode() for entry in os.scandir(directory)}
        for name in directories:
            path = os.path.join(directory, name)
            st, fd = os.lstat(path), os.open(path, os.O_RDONLY)
            held = os.fstat(fd)
            os.close(fd)
            same = {(st.st_dev, st.st_ino), (held.st_dev, held.st_ino), statx(path)}
            assert len(same) == 1 and listed[name] == st.st_ino, (path, same, listed[name])
            found[path] = same.pop()
        for name in files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            assert listed[name] == st.st_ino and statx(path) == (st.st_dev, st.st_ino)
    return found
"""


def test_numbers_of_directories_stay(box: Box) -> None:
    """dev and ino of a directory, from stat, fstat, statx and getdents64: before and after it is
    copied up, and in another run."""
    top = tree(box)
    script = f"""{NUMBERS}
before = numbers()
held = os.open('d/e', os.O_RDONLY)
open('d/e/new', 'w').close()
os.chmod('h', 0o700)
open('f', 'a').write('x')
os.mkdir('made')
after = numbers()
made = after.pop('./made')
assert after == before, (before, after)
st = os.fstat(held)
assert (st.st_dev, st.st_ino) == before['./d/e'] and sorted(os.listdir(held)) == ['new', 'y']
print(json.dumps(before))
"""
    first = box.view([box.installation.python, "-c", script], options=(*COW, "--name=n"), cwd=top).check()
    script = f"{NUMBERS}\nfound = numbers(); found.pop('./made'); print(json.dumps(found))"
    again = box.view([box.installation.python, "-c", script], options=("--on=n",), cwd=top).check()
    assert again.stdout == first.stdout


LISTING = """
import os, threading
stays = {f'below-{i}' for i in range(20000) if i % 4} | {f'above-{i}' for i in range(4000)}
for i in range(4000):
    open(f'big/above-{i}', 'w').close()
for i in range(0, 20000, 400):
    os.unlink(f'big/below-{i}')
ended = threading.Event()
turns = 0
def change():
    global turns
    while not ended.is_set():
        for i in range(0, 20000, 40):
            if os.path.exists(f'big/below-{i}'):
                os.unlink(f'big/below-{i}')
            else:
                open(f'big/below-{i}', 'w').close()
            os.close(os.open(f'big/new-{turns}', os.O_CREAT))
            os.unlink(f'big/new-{turns - 1}') if turns else None
            turns += 1
            if ended.is_set():
                break
thread = threading.Thread(target=change)
thread.start()
try:
    for _ in range(8):
        names = os.listdir('big')
        assert len(set(names)) == len(names), [name for name in set(names) if names.count(name) > 1][:9]
        assert stays <= set(names), sorted(stays - set(names))[:9]
finally:
    ended.set()
    thread.join()
assert turns > 50, turns
"""


@pytest.mark.tmpfs
def test_a_large_listing_while_names_come_and_go(box: Box) -> None:
    top = tree(box)
    (top / "big").mkdir()
    for i in range(20000):
        (top / f"big/below-{i}").touch()
    box.give(top / "big")
    box.view([box.installation.python, "-c", LISTING], options=COW, cwd=top).check()
    assert len(os.listdir(top / "big")) == 20000
    vuctl(box, "drop", *layers(box)).check()


def killed(box: Box, script: str, *, everything: bool) -> None:
    """Run `script` in layer n until it says so, then SIGKILL."""
    words = [*box.vuos_run(None, *COW, "--name=n"), "/bin/sh", "-c", script]
    process = box.popen(words, cwd=box.scratch / "tree", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(b"now"), line
    sessions = json.loads(vuctl(box, "ps", "--json").stdout)["sessions"]
    workers = [session["worker"] for session in sessions if session["name"] == "n"]
    assert workers
    if everything:
        processes.kill_tree(process.pid)
    for worker in workers:
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            assert everything
    assert processes.until(lambda: not any(map(alive, workers)))
    process.wait()
    process.stdout.close()


def alive(pid: int) -> bool:
    process = processes.look(pid)
    return process is not None and process.state not in "ZX"


ENDS = pytest.mark.parametrize("everything", [False, True], ids=["worker", "everything"])


@ENDS
def test_killed_in_git_gc(box: Box, everything: bool) -> None:
    top = tree(box)
    make = (
        "git init -q; git config user.name n; git config user.email e; git config gc.auto 0;"
        "for i in $(seq 30); do echo $i > f$i; git add f$i; git commit -q -m $i; done"
    )
    box.native(["/bin/sh", "-c", make], cwd=top).check()
    work = "git add f; git commit -q -m last; git rev-parse HEAD > head; sync head; echo now; "
    work += "while :; do git gc -q --prune=now; git repack -q -a -d -f; done"
    killed(box, "echo more >> f; " + work, everything=everything)
    check = "git fsck --full && git log --oneline | wc -l && git rev-parse HEAD | cmp - head && cat f"
    done = run(box, check, "--on=n").check()
    assert done.stdout.split() == ["31", "f", "more"], done.stdout
    words = ["/bin/sh", "-c", "git fsck --full && git log --oneline | wc -l"]
    assert box.native(words, cwd=top).stdout == "30\n"


SQLITE = """
import sqlite3, sys
db = sqlite3.connect('db')
db.execute('pragma journal_mode = {journal}')
for i in range(10 ** 9):
    with db:
        db.executemany('insert into t values (?, ?)', [(i, n) for n in range(50)])
    if i == 20:
        print('now', flush=True)
"""
LOOK = """
import sqlite3
db = sqlite3.connect('db')
print(db.execute('pragma integrity_check').fetchone()[0])
counts = dict(db.execute('select i, count(*) from t group by i'))
assert set(counts.values()) <= {50}, counts
assert set(counts) >= set(range(-1, 21)), sorted(counts)
assert len(counts) == max(counts) + 2
"""


@ENDS
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_killed_in_a_transaction(box: Box, journal: str, everything: bool) -> None:
    top = tree(box)
    made = "import sqlite3; db = sqlite3.connect('db'); db.execute('create table t (i, n)')\nwith db:\n"
    made += " db.executemany('insert into t values (-1, ?)', [(n,) for n in range(50)])"
    python = box.installation.python
    box.native([python, "-c", made], cwd=top).check()
    before = (top / "db").read_bytes()
    script = "exec " + shlex.join([str(python), "-c", SQLITE.format(journal=journal)])
    killed(box, script, everything=everything)
    done = box.view([python, "-c", LOOK], options=("--on=n",), cwd=top).check()
    assert done.stdout == "ok\n"
    assert (top / "db").read_bytes() == before


SOCKETS = """
import os, socket, sys
def bound(kind, name):
    it = socket.socket(socket.AF_UNIX, kind)
    it.bind(name)
    assert it.getsockname() == name
    return it
top, long = os.getcwd(), "n" * 40
os.makedirs("a"), os.makedirs("b")
for directory in ("a", "b", "."):  # the same descriptor's number and name, in another directory
    os.chdir(directory)
    server = bound(socket.SOCK_STREAM, long)
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(server.getsockname())
    peer, sender = server.accept()
    assert (client.getpeername(), peer.getsockname(), sender) == (long, long, "")
    client.close(), peer.close(), server.close()
    os.chdir(top)
servers = [bound(socket.SOCK_DGRAM, f"{name}/{long}d") for name in ("a", "b")]
for number, server in enumerate(servers):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.bind(f"client{number}")
    client.sendto(b"question", f"{'ab'[number]}/{long}d")
    said, sender = server.recvfrom(100)
    server.sendto(b"answer %d" % number, sender)
    assert client.recv(100) == b"answer %d" % number
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    other.connect(sender)
    other.send(b"connected")
    assert client.recv(100) == b"connected"
os.unlink("client0")
try:
    server.sendto(b"nobody", sender.replace("1", "0"))
except FileNotFoundError:
    print("done")
"""


@pytest.mark.places(*places.ALL)
@pytest.mark.parametrize("enforce", ["", "[view]\nenforce = true\n"])
def test_what_a_socket_is_called(box: Box, enforce: str) -> None:
    """The layer's own path is too long for an address, and says nothing to the program."""
    top = tree(box)
    profile = f'{enforce}[[mount]]\ntype = "cow"\ntarget = "{top}"\n'
    argv = [box.installation.python, "-c", SOCKETS]
    done = box.view(argv, profile, cwd=top)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    done = box.native(argv, cwd=top)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


HELD = """
import ctypes, os, sys
top = sys.argv[1]
os.chdir(top)
def put(name, text):
    with open(name, "w") as file:
        file.write(text)
def look(what, fd):
    found = []
    for ask in (
        lambda: sorted(os.listdir(fd)),
        lambda: open(os.open("f", os.O_RDONLY, dir_fd=fd)).read(),
        lambda: os.readlink(f"/proc/self/fd/{fd}").removeprefix(top),
        lambda: sorted(os.listdir(f"/proc/self/fd/{fd}/.")),
        lambda: os.stat("f", dir_fd=fd).st_size,
        lambda: os.fstat(fd).st_mode,
    ):
        try:
            found.append(ask())
        except OSError as error:
            found.append(error.strerror)
    print(what, *found)
def here():
    print(os.getcwd().removeprefix(top), *(sorted(os.listdir(n)) for n in (".", "..")), open("../f").read())
held = {name: os.open(name, os.O_RDONLY) for name in ("d", "d/s", "d/s/t", "k", "k/l")}
def all(what):
    for name, fd in held.items():
        look(f"{what}: {name}", fd)
all("first")
os.rename("d/s", "d/r"); all("inner")
os.rename("d", "e"); all("outer")
put("e/new", "x"); os.mkdir("d"); put("d/f", "another"); all("another in its place")
held["d2"] = os.open("d", os.O_RDONLY)
os.rename("d", "m"); os.rename("e", "d"); all("back")
exchanged = ctypes.CDLL(None, use_errno=True).renameat2(-100, b"d", -100, b"k", 2)
print("exchange", exchanged); all("exchanged")
os.chdir("k/r"); here(); os.rename("../../k", "../../z"); here()
put("own", "1"); here(); all("under us")
os.rename("../r/t", "../t"); all("out of it"); os.chdir("../t"); here()
for directory, names, files in sorted(os.walk(top)):
    print(directory.removeprefix(top), sorted(names), sorted(files))
"""


@pytest.mark.parametrize("how", ["own place", "elsewhere", "enforce"])
def test_a_directory_that_is_held_is_renamed(box: Box, how: str) -> None:
    """Who stands in it, or has it open, stays with it, whatever is made in its place."""
    tops = [box.scratch / "tree", box.scratch / "natively"]
    for top in tops:
        for name in ("d/s/t", "k/l"):
            (top / name).mkdir(parents=True)
        for path in sorted(top.rglob("*")):
            (path / "f").write_text(path.name)
        box.give(top)
    target = box.directory("target") if how == "elsewhere" else tops[0]
    profile = "[view]\nenforce = true\n" if how == "enforce" else ""
    profile += f'[[mount]]\ntype = "cow"\nephemeral = true\nsource = "{tops[0]}"\ntarget = "{target}"\n'
    command = [box.installation.python, "-c", HELD]
    inside = box.view([*command, target], profile).check()
    assert inside.stdout == box.native([*command, tops[1]]).check().stdout
    assert "exchange 0" in inside.stdout
