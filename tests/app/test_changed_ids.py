"""A program of root's that takes on other ids: also where root has not CAP_SYS_PTRACE, as in a container."""

import os
import pwd

import pytest
from harness import places
from harness.box import Box

CONTAINER = places.Place("container", around=("docker",), daemon=("ancestors",))
pytestmark = [
    pytest.mark.app,
    pytest.mark.only("root"),
    pytest.mark.places(places.PLAIN, places.DOCKER, places.ANCESTORS, CONTAINER),
]
USER = 4321  # nobody's

DROPPED = f"""
import ctypes, json, os, subprocess, sys, threading
def tried(what, *arguments):
    try:
        return what(*arguments)
    except OSError as error:
        return error.errno
def all(directory):
    os.chdir(directory)
    return [
        os.getcwd(), sorted(os.listdir()), open('f').read(), os.getresuid(), os.getresgid(), os.getgroups(),
        tried(os.mkdir, 'new'), tried(open, 'closed'), tried(os.chmod, 'f', 0o600),
        tried(os.mkdir, 'free/new'),
        os.stat('free/new').st_uid, tried(os.rmdir, 'free/new'),
        subprocess.run(['cat', 'f'], capture_output=True).stdout.decode(),
        subprocess.run(['/bin/sh', '-c', 'cd free && pwd && exec 3<. && cat /proc/self/fd/3/../f'],
                       capture_output=True).stdout.decode(),
    ]
found = [os.stat(sys.argv[1] + '/f').st_size]
how = sys.argv[2]
if how == 'groups first':
    os.setgroups([{USER}]); os.setresgid({USER}, {USER}, {USER}); os.setresuid({USER}, {USER}, {USER})
elif how == 'old calls':
    os.setgroups([]); os.setgid({USER}); os.setuid({USER})
elif how == 'keeping capabilities':  # as setpriv(1) does
    ctypes.CDLL(None).prctl(8, 1, 0, 0, 0)
    os.setresuid({USER}, {USER}, {USER})
    tried(os.setresgid, {USER}, {USER}, {USER})
found.append(all(sys.argv[1]))
thread = threading.Thread(target=lambda: found.append(all(sys.argv[1])))
thread.start(); thread.join()
print(json.dumps(found))
"""


def tree(box: Box) -> str:
    top = box.scratch / "shared"
    (top / "free").mkdir(parents=True)
    (top / "f").write_text("text")
    (top / "closed").write_text("secret")
    (top / "closed").chmod(0o600)
    for path in (box.scratch, top, *top.iterdir()):
        os.chown(path, 0, 0)
    (top / "free").chmod(0o777)
    box.scratch.chmod(0o755)
    return str(top)


def view_of(top: str, kind: str) -> tuple[str, str]:
    """Where the tree is in the view, and the profile."""
    target = top if kind == "cow" else "/srv/elsewhere"
    head = "[view]\nenforce = true\n" if kind == "enforce" else ""
    entry = "cow" if kind == "cow" else "bind"
    profile = f'{head}[[mount]]\ntype = "{entry}"\nsource = "{top}"\ntarget = "{target}"\n'
    return target, profile + ("ephemeral = true\n" if kind == "cow" else "")


@pytest.mark.parametrize("how", ["groups first", "old calls", "keeping capabilities"])
@pytest.mark.parametrize("kind", ["bind", "enforce", "cow"])
def test_dropped_for_good(box: Box, how: str, kind: str) -> None:
    top = tree(box)
    command = [box.installation.python, "-c", DROPPED]
    native = box.native([*command, top, how]).check()
    target, profile = view_of(top, kind)
    view = box.view([*command, target, how], profile).check()
    assert view.stdout.replace(target, top) == native.stdout
    assert view.stderr == ""


MIXED = f"""
import json, os, sys
found = []
def tried(what, *arguments):
    try:
        return str(what(*arguments) or '')
    except OSError as error:
        return error.errno
def look(what):
    found.append([
        what, os.geteuid(), os.getegid(), os.getresuid(), os.getresgid(), os.getgroups(),
        tried(os.mkdir, 'free/new'), os.path.exists('free/new') and os.stat('free/new').st_uid,
        tried(os.rmdir, 'free/new'), tried(os.open, 'closed', 0) == 13, tried(os.mkdir, 'no'),
        tried(os.rmdir, 'no'), os.access('closed', os.R_OK),
        os.access('closed', os.R_OK, effective_ids=True),
        tried(os.chown, 'f', 1, 1), tried(os.chown, 'f', 0, 0),
    ])
os.chdir(sys.argv[1])
look('at first')
for _ in range(2):
    os.setgroups([{USER}])
    os.setegid({USER}); look('egid')
    os.seteuid({USER}); look('euid')
    if os.fork() == 0:
        look('child')
        print(json.dumps(found), flush=True)
        os._exit(0)
    os.wait()
    os.seteuid(0); look('euid back')
    os.setegid(0); look('egid back')
    os.setgroups([])
os.setresgid({USER}, {USER}, {USER})
os.setreuid({USER}, {USER})
look('for good')
print(json.dumps(found))
print(tried(os.seteuid, 0))
"""


@pytest.mark.parametrize("kind", ["bind", "enforce", "cow"])
def test_effective_ids_for_a_while(box: Box, kind: str) -> None:
    """As apt-get does. Ids that differ close a process to who has not CAP_SYS_PTRACE."""
    top = tree(box)
    command = [box.installation.python, "-c", MIXED]
    native = box.native([*command, top]).check()
    target, profile = view_of(top, kind)
    view = box.view([*command, target], profile).check()
    assert view.stdout == native.stdout
    assert view.stderr == ""


EXECUTES = f"""
import os
os.seteuid({USER})
try:
    os.execv('/bin/true', ['true'])
except OSError as error:
    print(error.strerror)
os.seteuid(0)
try:
    os.setresuid(0, 0, {USER})
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.places(places.DOCKER)
def test_what_is_refused(box: Box) -> None:
    view = box.view([box.installation.python, "-c", EXECUTES], view_of(tree(box), "bind")[1]).check()
    assert view.stdout == "Operation not permitted\n" * 2
    assert "--cap-add=SYS_PTRACE" in view.stderr


def test_they_end_with_the_session(box: Box) -> None:
    """Members with other ids are found, too: what is left of the session is killed with its launcher."""
    words = [
        "/bin/sh",
        "-c",
        f"setpriv --reuid={USER} --regid={USER} --clear-groups sleep 1000 & sleep 0.3; kill -9 $PPID",
    ]
    profile = f'[[mount]]\ntype = "bind"\nsource = "{tree(box)}"\ntarget = "/srv/elsewhere"\n'
    box.view(words, profile)  # that nothing is left is what every test checks


def test_the_user_is_nobody() -> None:
    assert USER not in {entry.pw_uid for entry in pwd.getpwall()}


SOCKETS = f"""
import os, socket, sys
os.setgroups([]); os.setresgid({USER}, {USER}, {USER}); os.setresuid({USER}, {USER}, {USER})
for directory in sys.argv[1:]:
    os.chdir(directory)
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        for name in f'free/{{kind}}', directory + f'/free/{{kind}}':
            server, client = socket.socket(socket.AF_UNIX, kind), socket.socket(socket.AF_UNIX, kind)
            server.bind(name)
            if kind == socket.SOCK_STREAM:
                server.listen()
                client.connect(name)
                end = server.accept()[0]
                client.send(b'hallo')
            else:
                end = server
                client.sendto(b'a', name)
                client.connect(name)
                client.send(b'b')
            print(end.recv(9), server.getsockname() == client.getpeername() == name)
            os.unlink(name)
            try:
                client.connect(name)
            except OSError as error:
                print(error.strerror)
            server.close()
"""


@pytest.mark.parametrize("kind", ["bind", "cow"])
def test_sockets_below_what_only_root_may_search(box: Box, kind: str) -> None:
    """The layer of root lies in root's home; and so may what is shown."""
    shown = box.directory("shown")
    (shown / "free").mkdir()
    for path in (shown, shown / "free"):
        path.chmod(0o777)
    target = str(shown) if kind == "cow" else "/srv/view"
    command = [box.installation.python, "-c", SOCKETS]
    box.scratch.chmod(0o755)
    native = box.native([*command, shown]).check()
    if kind == "bind":
        box.scratch.chmod(0o700)
    profile = f'[[mount]]\ntype = "{kind}"\nsource = "{shown}"\ntarget = "{target}"\n'
    view = box.view([*command, target], profile).check()
    assert view.stdout == native.stdout


def test_who_has_given_up_root_has_nothing_started_as_root(box: Box) -> None:
    """A plugin of its own would give the rights back to it."""
    os.chmod(box.scratch, 0o711)
    plugin = box.file("plugin.py", "from vuosd.api import Filesystem\nclass Own(Filesystem): pass\n")
    script = f"""
        as="setpriv --reuid={USER} --regid={USER} --clear-groups"
        for transport in kernel wire; do $as vumount -t $1 -o transport=$transport none $2 2>&1 || true; done
        $as vu_insmod $1 2>&1 || true
    """
    done = box.view(["sh", "-ec", script, "sh", plugin, box.directory("mnt")], timeout=30).check()
    text = f"only user 0, to whom the view belongs, may do that, and not user {USER}"
    assert done.stdout.splitlines() == [f"vumount: {text}"] * 2 + [f"vu_insmod: {text}"]


def test_who_has_given_up_root_changes_no_mounts_of_root(box: Box) -> None:
    """Natively mount(2) is EPERM, and fusermount3 mounts only at what the user may change."""
    os.chmod(box.scratch, 0o711)
    roots, own, mnt = box.directory("roots"), box.directory("own"), box.directory("mnt")
    os.chown(own, USER, USER)
    script = f"""
        as="setpriv --reuid={USER} --regid={USER} --clear-groups"
        try() {{ "$@" 2>/dev/null && echo done: "$*"; }}
        vumount -B $2 $3
        for place in $1 $2; do
            try $as vumount -B $2 $place; try $as vumount -t unreal none $place; try $as mount -B $2 $place
            try $as vumount -t cow $2 $place; try $as $4 -- true
        done
        try $as vumount -o remount,ro $2 $3; try $as mount --move $3 $2
        try $as vuumount $3; try $as umount $3
        try $as bindfs --no-allow-other $3 $1
        $as bindfs --no-allow-other $1 $2 && $as fusermount3 -u $2 && echo fine
    """
    words = ["sh", "-c", script, "sh", roots, own, mnt, box.installation.vuos_run]
    # Where the supervisor may not look into it, it cannot take such a server's descriptor: docs/mounting.md.
    closed = box.place is not places.PLAIN
    result = box.view(words, timeout=40)
    assert result.stdout == ("" if closed else "fine\n"), result.stderr
