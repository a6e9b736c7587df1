"""Programs that a view cannot answer: they fail as documented, and the person is told on the launcher's
stderr, once for each program, also where no daemon keeps a log."""

import errno

import pytest
from harness import places
from harness.box import Box

LOOK = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
/* look NAME…: what becomes of each, and of what fd 9 lists */
int main(int argc, char **argv)
{
	struct stat st;
	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY), error = errno;
		printf("%s%s ", fd < 0 ? "open " : "opened", fd < 0 ? strerrorname_np(error) : "");
		printf("stat %s\n", stat(argv[i], &st) ? strerrorname_np(errno) : "0");
	}
	char text[4096];
	printf("cwd %s\n", getcwd(text, sizeof text) ? text : strerrorname_np(errno));
	printf("list %s\n", syscall(SYS_getdents64, 9, text, sizeof text) < 0 ? strerrorname_np(errno) : "0");
	return 0;
}
"""

BLIND = (
    "vuos-run: {name} (process N): its memory may not be read (its user may not read the program, or it has "
    'changed its ids), so the view cannot answer it: calls with paths fail with "Permission denied"'
)


def warnings(stderr: str) -> list[str]:
    """The lines, without process ids."""
    lines = [line.split(" (process ", 1) for line in stderr.splitlines()]
    return [
        " (process N".join([line[0], *(rest.lstrip("0123456789") for rest in line[1:])]) for line in lines
    ]


def execute_only(box: Box, name: str) -> str:
    program = box.scratch / name
    program.write_bytes(box.programs.source("look", LOOK, "-static").read_bytes())
    program.chmod(0o111)
    box.give(box.scratch)
    return str(program)


def hiding(box: Box, head: str = "") -> str:
    secret = box.file("hidden/secret", "x")
    return f'{head}\n[[mount]]\ntype = "hide"\ntarget = "{secret.parent}"\n'


@pytest.mark.kernel
@pytest.mark.only("user")
@pytest.mark.parametrize("head", ["", "[view]\nenforce = true"], ids=["plain", "enforce"])
def test_execute_only_program(box: Box, head: str) -> None:
    """Its user may not read it, nor may the supervisor its memory: no call of it finds the real tree."""
    one, other = execute_only(box, "one"), execute_only(box, "other")
    names = f"{box.scratch}/hidden/secret /etc/passwd"
    script = f"exec 9<{box.scratch}; {one} {names}; {one} {names} >/dev/null; {other} >/dev/null"
    result = box.view(["/bin/sh", "-c", script], hiding(box, head)).check()
    denied = "open EACCES stat EACCES\n"
    assert result.stdout == f"{denied}{denied}cwd EACCES\nlist EACCES\n"
    assert warnings(result.stderr) == [BLIND.format(name="one"), BLIND.format(name="other")]


@pytest.mark.kernel
@pytest.mark.private
@pytest.mark.only("user")
@pytest.mark.places(places.PLAIN, places.ANCESTORS, places.DOCKER)
def test_without_a_daemon(box: Box) -> None:
    one = execute_only(box, "one")
    result = box.view([one, "/etc/passwd"], hiding(box)).check()
    assert result.stdout.startswith("open EACCES stat EACCES\n")
    assert warnings(result.stderr) == [BLIND.format(name="one")]


@pytest.mark.kernel
@pytest.mark.only("user")
def test_nothing_to_answer(box: Box) -> None:
    """A view without entries has no other answers than the kernel's."""
    one = execute_only(box, "one")
    command = ["/bin/sh", "-c", f"exec 9<{box.scratch}; {one} /etc/passwd /none"]
    native, view = box.native(command).check(), box.view(command).check()
    assert (view.stdout, view.stderr) == (native.stdout, "")


FOREIGN = r"""
#include <stdio.h>
int main(void)
{
	long result;
	for (int i = 0; i < 3; i++)
		__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	printf("%ld\n", result);
	return 0;
}
"""


@pytest.mark.kernel
@pytest.mark.private
@pytest.mark.parametrize("entries", [False, True])
def test_calls_of_32_bit_programs(box: Box, entries: bool) -> None:
    program = box.programs.source("foreign", FOREIGN, "-static")
    result = box.view([program], hiding(box) if entries else None).check()
    assert result.stdout == f"{-errno.ENOSYS}\n"
    assert warnings(result.stderr) == [
        "vuos-run: foreign (process N): made an i386 (32-bit) call: only x86-64 programs run in a view; "
        "it gets ENOSYS"
    ]
