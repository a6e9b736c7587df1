# ruff: noqa: E501  shell scripts and C programs as text, which no line break would make clearer
"""Real programs in a view notice nothing: each works, and gives what it gives natively."""

import shutil
from collections.abc import Sequence

import pytest
from app.views import Profile, in_all_views, pass_through, work
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.timeout(300)]


def tool(name: str) -> str:
    path = shutil.which(name)
    assert path, f"{name} is missing: tools/system-packages test installs it"
    return name


def sh(box: Box, profile: Profile, script: str, **more: object) -> Result:
    """A script under set -e, in the work directory."""
    return box.view(["/bin/sh", "-ec", script], profile(box), cwd=work(box), **more)  # type: ignore[arg-type]


def python(box: Box, profile: Profile, script: str, *arguments: str) -> Result:
    return box.view([box.installation.python, "-c", script, *arguments], profile(box), cwd=work(box))


@in_all_views
def test_git(box: Box, profile: Profile) -> None:
    tool("git")
    script = """
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
        git init -q -b main one; cd one
        for i in $(seq 200); do mkdir -p d$((i % 7)); echo "text $i" > d$((i % 7))/f$i; done
        git add .; git commit -qm first; git mv d1 e1; git rm -q d2/f2; git commit -qm second
        git status --porcelain
        cd ..; git clone -q one two; cd two; git gc -q; git fsck --strict 2>&1; git log --format=%H
        git checkout -q -b other HEAD~; git status --porcelain; git stash list; git worktree add -q ../three main; ls ../three
        cd ../one; git fetch -q ../two other:other; git diff --stat main other | tail -1
    """
    native = box.native(["/bin/sh", "-ec", script], cwd=box.directory("native")).check()
    assert sh(box, profile, script).check().stdout == native.stdout


@in_all_views
def test_gcc_and_make(box: Box, profile: Profile) -> None:
    tool("make")
    script = r"""
        mkdir src
        for i in $(seq 12); do printf '#include <stdio.h>\nint f%d(void) { return %d; }\n' $i $i > src/f$i.c; done
        { for i in $(seq 12); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; printf '%s\n' 'int main(void) { printf("%d\n", 0'
          for i in $(seq 12); do echo "+ f$i()"; done; echo '); }'; } > src/main.c
        printf 'OBJECTS := $(patsubst src/%%.c,%%.o,$(wildcard src/*.c))\nprogram: $(OBJECTS)\n\tcc -o $@ $^\n%%.o: src/%%.c\n\tcc -c -o $@ $<\n' > Makefile
        make -s -j4; ./program; make -q; touch src/f3.c; make -j2 | wc -l
    """
    assert sh(box, profile, script).check().stdout == "78\n2\n"


@in_all_views
def test_tar_and_rsync(box: Box, profile: Profile) -> None:
    tool("rsync")
    script = """
        mkdir -p tree/a/b/c; ln -s ../x tree/a/link; echo one > tree/a/one; ln tree/a/one tree/a/b/hard; mkfifo tree/fifo
        for i in $(seq 300); do echo $i > tree/a/b/c/$i; done; chmod 640 tree/a/one; touch -d '2001-02-03' tree/a/b/c/7
        tar cf t.tar tree; mkdir out; tar xf t.tar -C out; diff -r --no-dereference tree out/tree 2>&1 | grep -v fifo || true
        tar df t.tar; rsync -aH --delete tree/ copy/; rsync -aH --delete --itemize-changes tree/ copy/
        stat -c '%n %a %h %Y' out/tree/a/one out/tree/a/b/c/7 copy/a/b/hard | sed 's/ [0-9]*$//'
        stat -c %Y copy/a/b/c/7; mv out/tree tree2; rm -r copy out tree2; find . | wc -l; du -a tree | wc -l
    """
    native = box.native(["/bin/sh", "-ec", script], cwd=box.directory("native")).check()
    assert sh(box, profile, script).check().stdout == native.stdout


@in_all_views
def test_sqlite_two_processes(box: Box, profile: Profile) -> None:
    tool("sqlite3")
    script = """
        sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(x);'
        for p in 1 2; do (for i in $(seq 30); do echo "PRAGMA busy_timeout=20000; INSERT INTO t VALUES($i);"; done | sqlite3 db > /dev/null) & done
        wait; sqlite3 db 'SELECT count(*), sum(x) FROM t; PRAGMA integrity_check;'; ls
    """
    assert sh(box, profile, script).check().stdout == "wal\n60|930\nok\ndb\n"


@in_all_views
def test_python(box: Box, profile: Profile) -> None:
    script = """
import concurrent.futures, multiprocessing, os, pathlib, shutil, subprocess, sys, tempfile, threading
def square(n):
    return n * n
if __name__ == "__main__":
    lock, made = threading.Lock(), []
    def make(i):
        for j in range(20):
            path = pathlib.Path(f"t{i}-{j}"); path.write_text("x"); assert path.stat().st_size == 1; path.unlink()
        with lock: made.append(i)
    threads = [threading.Thread(target=make, args=(i,)) for i in range(8)]
    [t.start() for t in threads]; [t.join() for t in threads]
    assert len(made) == 8 and os.listdir() == [], os.listdir()
    with multiprocessing.get_context("fork").Pool(3) as pool: assert pool.map(square, range(20)) == [n * n for n in range(20)]
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool: assert sum(pool.map(square, range(10))) == 285
    assert subprocess.run([sys.executable, "-c", "import os; print(os.getcwd())"], capture_output=True, text=True).stdout.strip() == os.getcwd()
    with tempfile.TemporaryDirectory() as d, tempfile.TemporaryFile() as f, tempfile.NamedTemporaryFile() as g:
        os.makedirs(d + "/a/b"); os.symlink("b", d + "/a/link"); shutil.copytree(d + "/a", d + "/copy", symlinks=True); shutil.rmtree(d + "/copy")
    r, w = os.pipe(); pid = os.fork()
    if not pid: os.write(w, os.readlink("/proc/self/cwd").encode()); os._exit(0)
    os.waitpid(pid, 0); assert os.read(r, 4096).decode() == os.getcwd()
    shared = multiprocessing.shared_memory.SharedMemory(create=True, size=100) if hasattr(multiprocessing, "shared_memory") else None
    print("fine")
"""
    assert python(box, profile, script).check().stdout == "fine\n"


@in_all_views
def test_node(box: Box, profile: Profile) -> None:
    script = """
        const fs = require('fs'), cp = require('child_process'), path = require('path');
        (async () => {
          await Promise.all([...Array(50).keys()].map(async i => { await fs.promises.writeFile('f' + i, 'x'); await fs.promises.stat('f' + i); }));
          fs.mkdirSync('a/b', { recursive: true }); fs.renameSync('f1', 'a/b/f1'); fs.rmSync('a', { recursive: true });
          const out = cp.execFileSync('/bin/cat', ['f2']).toString();
          console.log(fs.readdirSync('.').length, out, process.cwd() === fs.realpathSync('.'));
        })();
    """
    assert box.view([tool("node"), "-e", script], profile(box), cwd=work(box)).check().stdout == "49 x true\n"


@in_all_views
def test_ssh_keygen(box: Box, profile: Profile) -> None:
    tool("ssh-keygen")
    out = (
        sh(
            box,
            profile,
            "ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -y -f key | cut -d' ' -f1; stat -c %a key",
        )
        .check()
        .stdout
    )
    assert out == "ssh-ed25519\n600\n"


@in_all_views
def test_gdb_on_a_program_inside(box: Box, profile: Profile) -> None:
    tool("gdb")
    program = box.programs.source(
        "debugged", "#include <stdio.h>\nint answer(int x) { return x + 2; }\nint main(void) { printf(\"%d\\n\", answer(40)); FILE *f = fopen(\"/etc/passwd\", \"r\"); return !f; }\n", "-O0"
    )  # fmt: skip
    argv: Sequence[str] = ["gdb", "-q", "-batch", "-nx", "-ex", "set startup-with-shell off", "-ex", "break answer", "-ex", "run", "-ex", "print x", "-ex", "continue", str(program)]  # fmt: skip
    out = box.view(argv, profile(box), cwd=work(box)).check().stdout
    assert "$1 = 40" in out
    assert "exited normally" in out


@in_all_views
def test_strace_on_a_program_inside(box: Box, profile: Profile) -> None:
    tool("strace")
    out = sh(box, profile, "echo text > file; strace -f -o trace /bin/sh -c 'cat file; cat missing || true'; grep -c openat trace; grep -o 'missing.*ENOENT' trace | head -1")  # fmt: skip
    assert out.check().stdout.startswith("text\n")
    assert "ENOENT" in out.stdout


@in_all_views
def test_posix_spawn_storm(box: Box, profile: Profile) -> None:
    program = box.programs.source("storm", STORM)
    assert box.view([program], profile(box), cwd=work(box)).check().stdout == "400\n"


STORM = r"""
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdatomic.h>
#include <sys/wait.h>
extern char **environ;
static atomic_int good;
static void *many(void *unused)
{
	char *argv[] = { "true", NULL };
	for (int i = 0; i < 50; i++) {
		pid_t pid;
		int status = 1;
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) == 0 && waitpid(pid, &status, 0) == pid && status == 0)
			good++;
	}
	return unused;
}
int main(void)
{
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, many, NULL);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	printf("%d\n", good);
	return 0;
}
"""


def test_a_thousand_processes_at_once(box: Box) -> None:
    """All alive together, each doing path calls when all are there."""
    program = box.programs.source("thousand", THOUSAND)
    assert box.view([program], timeout=120, cwd=work(box)).check().stdout == "1000\n"


THOUSAND = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
	int go[2], good = 0, status;
	char c;
	pipe(go);
	for (int i = 0; i < 1000; i++)
		if (fork() == 0) {
			struct stat st;
			char name[32];
			close(go[1]);
			read(go[0], &c, 1);
			sprintf(name, "file%d", i);
			int fd = open(name, O_CREAT | O_WRONLY, 0600);
			int ok = fd >= 0 && stat(name, &st) == 0 && unlink(name) == 0 && stat(name, &st) < 0;
			_exit(!ok);
		}
	close(go[0]);
	close(go[1]);
	while (wait(&status) > 0)
		good += status == 0;
	printf("%d\n", good);
	return 0;
}
"""


PROCESSORS = """
import os
every = os.sched_getaffinity(0)
one = {max(every)}
for wanted in every, one, every:
    os.sched_setaffinity(0, wanted)
    for i in range(3000):
        fd = os.open(f"file{i % 10}", os.O_RDWR | os.O_CREAT if i % 2 else os.O_RDONLY | os.O_CREAT)
        os.close(fd)
        assert os.sched_getaffinity(0) == wanted, (i, os.sched_getaffinity(0), wanted)
        if i % 100 == 0:
            child = os.fork()
            if not child:
                os._exit(os.sched_getaffinity(0) != wanted)
            assert os.waitpid(child, 0)[1] == 0
print("kept")
"""


@in_all_views
def test_processors_a_thread_may_run_on(box: Box, profile: Profile) -> None:
    """Descriptors are handed over while the caller may run on one only (inject.c): that never shows."""
    assert python(box, profile, PROCESSORS).check().stdout == "kept\n"


@in_all_views
def test_undumpable(box: Box, profile: Profile) -> None:
    """ssh-agent and gpg make their memory unreadable; their path calls must go on."""
    program = box.programs.source("undumpable", UNDUMPABLE)
    assert box.view([program], profile(box), cwd=work(box)).check().stdout == "0 fine\n"


UNDUMPABLE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void)
{
	char text[8] = "";
	int fd;
	prctl(PR_SET_DUMPABLE, 0);
	fd = open("secret", O_CREAT | O_RDWR, 0600);
	write(fd, "fine", 4);
	close(fd);
	fd = open("secret", O_RDONLY);
	read(fd, text, 4);
	rename("secret", "other");
	chdir("/");
	printf("%d %s\n", prctl(PR_GET_DUMPABLE), text);
	return 0;
}
"""


@in_all_views
def test_own_seccomp_filter(box: Box, profile: Profile) -> None:
    """A filter of the program's own works beside ours: what it refuses is refused, what it lets through is answered by the view."""
    program = box.programs.source("filtered", FILTERED)
    assert box.view([program], profile(box), cwd=work(box)).check().stdout == "mkdir 13 open 1\n"


FILTERED = r"""
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mkdir, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };
	int made, error;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 1;
	made = syscall(SYS_mkdir, "directory", 0755);
	error = errno;
	printf("mkdir %d open %d\n", made ? error : 0, open("file", O_CREAT | O_WRONLY, 0600) >= 0);
	return 0;
}
"""


def test_descriptors_pass_through(box: Box) -> None:
    """Any inherited descriptor is there inside, at its number, untouched."""
    import os

    read, write = os.pipe()
    try:
        os.set_inheritable(write, True)
        script = f"echo through >&{write}; ls /proc/self/fd | wc -l"
        inside = box.view(["/bin/bash", "-c", script], pass_fds=[write]).check()
        native = box.native(["/bin/bash", "-c", script], pass_fds=[write]).check()
        assert os.read(read, 100) == b"through\nthrough\n"
        assert inside.stdout == native.stdout
    finally:
        os.close(read)
        os.close(write)


def test_environment_and_cwd(box: Box) -> None:
    inside = box.view(
        ["/bin/sh", "-c", "env | sort; pwd; umask; ulimit -a"], pass_through(box), cwd=work(box)
    ).check()
    native = box.native(["/bin/sh", "-c", "env | sort; pwd; umask; ulimit -a"], cwd=work(box)).check()
    assert inside.stdout == native.stdout
