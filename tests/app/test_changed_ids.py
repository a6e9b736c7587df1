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


@pytest.mark.parametrize("how", ["groups first", "old calls", "keeping capabilities"])
@pytest.mark.parametrize("kind", ["bind", "enforce", "cow"])
def test_dropped_for_good(box: Box, how: str, kind: str) -> None:
    top = tree(box)
    command = [box.installation.python, "-c", DROPPED]
    native = box.native([*command, top, how]).check()
    target = top if kind == "cow" else "/srv/elsewhere"
    head = "[view]\nenforce = true\n" if kind == "enforce" else ""
    entry = "cow" if kind == "cow" else "bind"
    profile = f'{head}[[mount]]\ntype = "{entry}"\nsource = "{top}"\ntarget = "{target}"\n'
    profile += "ephemeral = true\n" if kind == "cow" else ""
    view = box.view([*command, target, how], profile).check()
    assert view.stdout.replace(target, top) == native.stdout
    assert view.stderr == ""


MIXED = f"""
import os
try:
    os.seteuid({USER})
    print(os.stat('/srv/elsewhere/f').st_size)
    os.seteuid(0)
except OSError as error:
    print(error.strerror)
print(os.stat('/srv/elsewhere/f').st_size)
"""


def test_for_a_while(box: Box) -> None:
    """Ids that differ from one another: who asks without CAP_SYS_PTRACE may not look at such a process."""
    profile = f'[[mount]]\ntype = "bind"\nsource = "{tree(box)}"\ntarget = "/srv/elsewhere"\n'
    view = box.view([box.installation.python, "-c", MIXED], profile).check()
    if "docker" in box.place.around:
        assert view.stdout == "Operation not permitted\n4\n"
        assert "may not have real and effective ids that differ" in view.stderr
        assert "--cap-add=SYS_PTRACE" in view.stderr
    else:
        assert (view.stdout, view.stderr) == ("4\n4\n", "")


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
