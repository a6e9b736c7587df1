"""Every system call of x86-64, up to Linux 6.18, and what this project does with it. No I/O.

The filter, the engine's decoder, docs/syscalls.md and tests are derived from `ROWS`. Numbers and arguments
are those of arch/x86/entry/syscalls/syscall_64.tbl and include/linux/syscalls.h; `rows` explains the
notation.

Longer than other files, because it is one table.
"""

import os
from collections.abc import Iterator
from errno import EIO, ENOSYS, EPERM

from vuosd.abi import constants as c
from vuosd.abi.rows import LONG, WORD, Arg, Level, Op, Row, When, check

FIRST_GAP = range(337, 424)
"""Numbers that x86-64 leaves free, so that calls newer than 2019 have one number on all architectures."""

LAST = 469
"""The last number of the table. What comes after is ENOSYS: an unknown call may take a path."""

DirFd, Path, DirFd2, Path2, Flags, Mode = Arg.DIRFD, Arg.PATH, Arg.DIRFD2, Arg.PATH2, Arg.FLAGS, Arg.MODE
Buf, Size, Extra, Fd = Arg.BUF, Arg.SIZE, Arg.EXTRA, Arg.FD
__ = None

_NOFOLLOW = c.AT_SYMLINK_NOFOLLOW
_CREAT = os.O_CREAT | os.O_WRONLY | os.O_TRUNC


def row(
    nr: int,
    name: str,
    op: Op,
    *args: Arg | None,
    implied: int = 0,
    when: tuple[When, ...] = (),
    remote: bool = False,
    privileged: bool = False,
    entries: bool = False,
    stacked: bool = False,
    mounted: bool = False,
    carries: bool = False,
    unmounted: int = 0,
    note: str = "",
) -> Row:
    """A handled call."""
    return Row(
        nr,
        name,
        Level.HANDLED,
        op,
        args,
        implied,
        when,
        remote,
        privileged,
        entries,
        stacked,
        mounted,
        carries,
        unmounted=unmounted,
        note=note,
    )


def native(note: str, calls: str) -> Iterator[Row]:
    """Calls that pass by design, all for one reason: "NUMBER NAME NUMBER NAME …"."""
    return (Row(nr, name, Level.NATIVE, note=note) for nr, name in _pairs(calls))


def refused(errno: int, note: str, calls: str, *when: When, unmounted: int = 0) -> Iterator[Row]:
    """Calls that the filter itself answers with an errno."""
    return (
        Row(nr, name, Level.REFUSED, when=when, errno=errno, unmounted=unmounted, note=note)
        for nr, name in _pairs(calls)
    )


def _pairs(calls: str) -> Iterator[tuple[int, str]]:
    words = iter(calls.split())
    return ((int(number), name) for number, name in zip(words, words, strict=True))


def _is(arg: int, name: str) -> When:
    return When(arg, WORD, getattr(c, name), name)


_ROWS = (
    # Files by name.
    row(2, "open", Op.OPEN, Path, Flags, Mode, remote=True),
    row(85, "creat", Op.OPEN, Path, Mode, implied=_CREAT),
    row(257, "openat", Op.OPEN, DirFd, Path, Flags, Mode, remote=True),
    row(437, "openat2", Op.OPENAT2, DirFd, Path, Buf, Size, remote=True),
    row(4, "stat", Op.STAT, Path, Buf),
    row(6, "lstat", Op.STAT, Path, Buf, implied=_NOFOLLOW),
    row(262, "newfstatat", Op.STAT, DirFd, Path, Buf, Flags),
    row(5, "fstat", Op.FSTAT, Fd, Buf, stacked=True, note="a directory that several trees show"),
    row(332, "statx", Op.STATX, DirFd, Path, Flags, Extra, Buf),
    row(21, "access", Op.ACCESS, Path, Mode),
    row(269, "faccessat", Op.ACCESS, DirFd, Path, Mode),
    row(439, "faccessat2", Op.ACCESS, DirFd, Path, Mode, Flags),
    row(89, "readlink", Op.READLINK, Path, Buf, Size),
    row(267, "readlinkat", Op.READLINK, DirFd, Path, Buf, Size),
    row(83, "mkdir", Op.MKDIR, Path, Mode),
    row(258, "mkdirat", Op.MKDIR, DirFd, Path, Mode),
    row(133, "mknod", Op.MKNOD, Path, Mode, Extra),
    row(259, "mknodat", Op.MKNOD, DirFd, Path, Mode, Extra),
    row(87, "unlink", Op.UNLINK, Path),
    row(84, "rmdir", Op.UNLINK, Path, implied=c.AT_REMOVEDIR),
    row(263, "unlinkat", Op.UNLINK, DirFd, Path, Flags),
    row(86, "link", Op.LINK, Path, Path2),
    row(265, "linkat", Op.LINK, DirFd, Path, DirFd2, Path2, Flags),
    row(88, "symlink", Op.SYMLINK, Buf, Path),
    row(266, "symlinkat", Op.SYMLINK, Buf, DirFd, Path),
    row(82, "rename", Op.RENAME, Path, Path2),
    row(264, "renameat", Op.RENAME, DirFd, Path, DirFd2, Path2),
    row(316, "renameat2", Op.RENAME, DirFd, Path, DirFd2, Path2, Flags),
    row(90, "chmod", Op.CHMOD, Path, Mode),
    row(268, "fchmodat", Op.CHMOD, DirFd, Path, Mode),
    row(452, "fchmodat2", Op.CHMOD, DirFd, Path, Mode, Flags),
    row(92, "chown", Op.CHOWN, Path, Mode, Extra),
    row(94, "lchown", Op.CHOWN, Path, Mode, Extra, implied=_NOFOLLOW),
    row(260, "fchownat", Op.CHOWN, DirFd, Path, Mode, Extra, Flags),
    row(132, "utime", Op.UTIME, Path, Buf),
    row(235, "utimes", Op.UTIMES, Path, Buf),
    row(261, "futimesat", Op.UTIMES, DirFd, Path, Buf),
    row(280, "utimensat", Op.UTIMENSAT, DirFd, Path, Buf, Flags),
    row(76, "truncate", Op.TRUNCATE, Path, Extra),
    row(137, "statfs", Op.STATFS, Path, Buf),
    # Extended attributes and inode flags by name.
    row(191, "getxattr", Op.GETXATTR, Path, Extra, Buf, Size),
    row(192, "lgetxattr", Op.GETXATTR, Path, Extra, Buf, Size, implied=_NOFOLLOW),
    row(188, "setxattr", Op.SETXATTR, Path, Extra, Buf, Size, Mode),
    row(189, "lsetxattr", Op.SETXATTR, Path, Extra, Buf, Size, Mode, implied=_NOFOLLOW),
    row(194, "listxattr", Op.LISTXATTR, Path, Buf, Size),
    row(195, "llistxattr", Op.LISTXATTR, Path, Buf, Size, implied=_NOFOLLOW),
    row(197, "removexattr", Op.REMOVEXATTR, Path, Extra),
    row(198, "lremovexattr", Op.REMOVEXATTR, Path, Extra, implied=_NOFOLLOW),
    row(464, "getxattrat", Op.GETXATTRAT, DirFd, Path, Flags, Extra, Buf, Size),
    row(463, "setxattrat", Op.SETXATTRAT, DirFd, Path, Flags, Extra, Buf, Size),
    row(465, "listxattrat", Op.LISTXATTRAT, DirFd, Path, Flags, Buf, Size),
    row(466, "removexattrat", Op.REMOVEXATTRAT, DirFd, Path, Flags, Extra),
    row(468, "file_getattr", Op.FILE_GETATTR, DirFd, Path, Buf, Size, Flags),
    row(469, "file_setattr", Op.FILE_SETATTR, DirFd, Path, Buf, Size, Flags),
    # Where a process stands.
    row(80, "chdir", Op.CHDIR, Path, remote=True),
    row(161, "chroot", Op.CHROOT, Path),
    row(79, "getcwd", Op.GETCWD, Buf, Size),
    # Programs.
    row(59, "execve", Op.EXECVE, Path, Buf, Extra, remote=True),
    row(322, "execveat", Op.EXECVE, DirFd, Path, Buf, Extra, Flags, remote=True),
    # Names that the kernel watches or hands out.
    row(254, "inotify_add_watch", Op.INOTIFY, Fd, Path, Mode, remote=True),
    row(301, "fanotify_mark", Op.FANOTIFY, Fd, Mode, Extra, DirFd, Path, remote=True),
    row(303, "name_to_handle_at", Op.NAME_TO_HANDLE, DirFd, Path, Buf, Extra, Flags),
    row(304, "open_by_handle_at", Op.OPEN_BY_HANDLE, Fd, Buf, Flags),
    row(217, "getdents64", Op.GETDENTS64, Fd, Buf, Size, entries=True),
    row(78, "getdents", Op.GETDENTS, Fd, Buf, Size, entries=True),
    # Socket addresses: those of AF_UNIX are paths. The family is in memory, where the filter cannot look.
    row(49, "bind", Op.BIND, Fd, Buf, Size, remote=True),
    row(42, "connect", Op.CONNECT, Fd, Buf, Size, remote=True),
    row(44, "sendto", Op.SENDTO, Fd, __, __, __, Buf, Size,
        when=(When(4, LONG, 0, "an address is given", equal=False),),
        note="send(2) and writes to connected sockets are never trapped"),
    row(46, "sendmsg", Op.SENDMSG, Fd, Buf, Flags, remote=True),
    row(307, "sendmmsg", Op.SENDMMSG, Fd, Buf, Size, Flags, remote=True),
    *(row(nr, name, Op.SOCKNAME, Fd, Buf, Size, implied=peer, entries=True,
          note="of a socket below an entry the path that the program gave; others pass")
      for nr, name, peer in ((51, "getsockname", 0), (52, "getpeername", 1))),
    row(55, "getsockopt", Op.GETSOCKOPT, Fd, Extra, Mode, Buf, Size,
        when=(_is(2, "SO_PEERCRED"), _is(2, "SO_PEERPIDFD")), entries=True,
        note="all other options pass; where connect(2) is made by the supervisor it tells for whom"),
    # Changes through a descriptor that need not be open for writing: only a read-only entry forbids them.
    *(row(nr, name, Op.SYNC, Fd, mounted=True, note="a server's files are written back")
      for nr, name in _pairs("74 fsync 75 fdatasync 306 syncfs")),
    row(91, "fchmod", Op.FCHMOD, Fd, Mode, entries=True, mounted=True),
    row(93, "fchown", Op.FCHOWN, Fd, Mode, Extra, entries=True, mounted=True),
    row(190, "fsetxattr", Op.FSETXATTR, Fd, entries=True, mounted=True),
    row(199, "fremovexattr", Op.FREMOVEXATTR, Fd, entries=True, mounted=True),
    row(193, "fgetxattr", Op.FGETXATTR, Fd, Extra, Buf, Size, mounted=True,
        note="a server's are asked for there"),
    row(196, "flistxattr", Op.FLISTXATTR, Fd, Buf, Size, mounted=True, note="a server's are asked for there"),
    row(16, "ioctl", Op.IOCTL_SETFLAGS, Fd, when=tuple(_is(1, name) for name in (
        "FS_IOC_SETFLAGS", "FS_IOC_FSSETXATTR", "FS_IOC_SETVERSION", "FS_IOC_SET_ENCRYPTION_POLICY",
        "FS_IOC_ENABLE_VERITY", "FAT_IOCTL_SET_ATTRIBUTES",
        "BTRFS_IOC_SNAP_CREATE", "BTRFS_IOC_SNAP_CREATE_V2", "BTRFS_IOC_SNAP_DESTROY",
        "BTRFS_IOC_SNAP_DESTROY_V2",
        "BTRFS_IOC_SUBVOL_CREATE", "BTRFS_IOC_SUBVOL_CREATE_V2", "BTRFS_IOC_SUBVOL_SETFLAGS",
    )), entries=True, note="all other codes pass"),
    *refused(EIO, "types into the terminal of the shell outside; kernels since 6.2 may answer the same",
             "16 ioctl", _is(1, "TIOCSTI")),
    *refused(EPERM, "pastes into the terminal of the shell outside", "16 ioctl", _is(1, "TIOCLINUX")),
    # What the view keeps in the kernel, or must not lose.
    row(97, "getrlimit", Op.GETRLIMIT, __, Buf, when=(_is(0, "RLIMIT_LOCKS"),),
        note="the limit holds the view's tag"),
    row(160, "setrlimit", Op.SETRLIMIT, __, Buf, when=(_is(0, "RLIMIT_LOCKS"),),
        note="the limit holds the view's tag"),
    row(302, "prlimit64", Op.PRLIMIT, Extra, __, Buf, Size, when=(_is(1, "RLIMIT_LOCKS"),),
        note="the limit holds the view's tag"),
    row(157, "prctl", Op.DUMPABLE, Extra, Mode, when=(_is(0, "PR_SET_DUMPABLE"), _is(0, "PR_GET_DUMPABLE")),
        remote=True,
        note="memory stays readable to the supervisor"),
    # Credentials: a supervisor that is root acts with those of the caller, and must know when they change.
    *(row(nr, name, Op.CREDENTIALS, privileged=True, remote=True) for nr, name in _pairs(
        "105 setuid 106 setgid 113 setreuid 114 setregid 117 setresuid 119 setresgid 122 setfsuid "
        "123 setfsgid 116 setgroups 126 capset")),
    *(row(nr, name, Op.IDS, entries=True, carries=True) for nr, name in _pairs(
        "107 geteuid 108 getegid 118 getresuid 120 getresgid")),
    row(272, "unshare", Op.CREDENTIALS, privileged=True, remote=True,
        when=(When(0, c.CLONE_NEWUSER, c.CLONE_NEWUSER, "CLONE_NEWUSER"),)),

    # Mounts: the engine's picture of the host's must stay true, and a kernel mount inside would go past it.
    row(165, "mount", Op.MOUNT, Buf, Path, Extra, Flags, unmounted=EPERM,
        note="never the kernel's: the mounter changes the view"),
    row(166, "umount2", Op.UMOUNT, Path, Flags, unmounted=EPERM,
        note="never the kernel's: the mounter changes the view"),
    *refused(ENOSYS, "as on kernels before Linux 5.2 (5.12, 6.15), for which libmount goes on with mount(2)",
             "429 move_mount 428 open_tree 467 open_tree_attr 430 fsopen 431 fsconfig 432 fsmount 433 fspick "
             "442 mount_setattr", unmounted=EPERM),
    *refused(EPERM, "would change the kernel's mounts under the view; as for a process without privilege",
             "155 pivot_root"),
    *refused(EPERM, "may join another mount namespace, where paths mean other files", "308 setns",
             When(1, WORD, 0, "any type"), When(1, c.CLONE_NEWNS, c.CLONE_NEWNS, "CLONE_NEWNS")),
    *refused(EPERM, "takes a path, for the superuser only", "167 swapon 168 swapoff 163 acct"),
    *refused(EPERM, "takes the path of a block device; quotactl_fd passes", "179 quotactl"),
    *refused(EPERM, "BPF_OBJ_PIN and BPF_OBJ_GET take paths; as for a process without privilege", "321 bpf"),
    *refused(ENOSYS, "would list the real mounts; tools fall back to /proc/self/mountinfo",
             "457 statmount 458 listmount"),
    *refused(ENOSYS, "its requests open files past every filter; programs fall back to epoll and threads",
             "425 io_uring_setup 426 io_uring_enter 427 io_uring_register"),
    *refused(ENOSYS, "takes or returns a path; removed from the kernel", "134 uselib 212 lookup_dcookie"),
    *refused(ENOSYS, "removed from the kernel, or never was in it",
             "156 _sysctl 174 create_module 177 get_kernel_syms 178 query_module 180 nfsservctl "
             "181 getpmsg 182 putpmsg 183 afs_syscall 184 tuxcall 185 security 205 set_thread_area "
             "211 get_thread_area 214 epoll_ctl_old 215 epoll_wait_old 236 vserver"),

    # The kernel keeps the books.
    *native("descriptors in a process are real",
            "0 read 1 write 3 close 8 lseek 17 pread64 18 pwrite64 19 readv 20 writev 22 pipe "
            "32 dup 33 dup2 40 sendfile 72 fcntl 73 flock 77 ftruncate 138 fstatfs "
            "187 readahead 221 fadvise64 275 splice 276 tee "
            "277 sync_file_range 278 vmsplice 285 fallocate 292 dup3 293 pipe2 295 preadv 296 pwritev "
            "326 copy_file_range 327 preadv2 328 pwritev2 436 close_range 443 quotactl_fd "
            "451 cachestat"),
    *native("the working directory is the real one, and an open directory is in the view", "81 fchdir"),
    *native("waits on descriptors, which are real",
            "7 poll 23 select 213 epoll_create 232 epoll_wait 233 epoll_ctl 270 pselect6 271 ppoll "
            "281 epoll_pwait 291 epoll_create1 441 epoll_pwait2 206 io_setup 207 io_destroy "
            "208 io_getevents 209 io_submit 210 io_cancel 333 io_pgetevents 282 signalfd "
            "283 timerfd_create 284 eventfd 286 timerfd_settime 287 timerfd_gettime 289 signalfd4 "
            "290 eventfd2 253 inotify_init 255 inotify_rm_watch 294 inotify_init1 300 fanotify_init"),
    *native("memory, mapped from descriptors that are real",
            "9 mmap 10 mprotect 11 munmap 12 brk 25 mremap 26 msync 27 mincore 28 madvise 149 mlock "
            "150 munlock 151 mlockall 152 munlockall 216 remap_file_pages 237 mbind 238 set_mempolicy "
            "239 get_mempolicy 256 migrate_pages 279 move_pages 319 memfd_create 323 userfaultfd "
            "325 mlock2 329 pkey_mprotect 330 pkey_alloc 331 pkey_free 440 process_madvise "
            "447 memfd_secret 448 process_mrelease 450 set_mempolicy_home_node 453 map_shadow_stack "
            "462 mseal"),
    *native("a child inherits its view by the kernel's own means: filter, tag, Landlock domain",
            "56 clone 57 fork 58 vfork 60 exit 61 wait4 231 exit_group 247 waitid 435 clone3"),
    *native("acts between processes, under the kernel's checks (Landlock's too in an enforcing view)",
            "62 kill 101 ptrace 129 rt_sigqueueinfo 200 tkill 234 tgkill 297 rt_tgsigqueueinfo "
            "310 process_vm_readv 311 process_vm_writev 312 kcmp 424 pidfd_send_signal 434 pidfd_open "
            "438 pidfd_getfd"),
    *native("signals",
            "13 rt_sigaction 14 rt_sigprocmask 15 rt_sigreturn 34 pause 127 rt_sigpending "
            "128 rt_sigtimedwait 130 rt_sigsuspend 131 sigaltstack 219 restart_syscall"),
    *native("futexes and threads",
            "24 sched_yield 154 modify_ldt 158 arch_prctl 202 futex 218 set_tid_address "
            "273 set_robust_list 274 get_robust_list 324 membarrier 334 rseq 449 futex_waitv "
            "454 futex_wake 455 futex_wait 456 futex_requeue"),
    *native("sockets are real; a sender's address of AF_UNIX is the one that was bound",
            "41 socket 43 accept 45 recvfrom 47 recvmsg 48 shutdown 50 listen "
            "53 socketpair 54 setsockopt 288 accept4 299 recvmmsg"),
    *native("System V and POSIX message objects have no path in the view's files",
            "29 shmget 30 shmat 31 shmctl 64 semget 65 semop 66 semctl 67 shmdt 68 msgget 69 msgsnd "
            "70 msgrcv 71 msgctl 220 semtimedop 240 mq_open 241 mq_unlink 242 mq_timedsend "
            "243 mq_timedreceive 244 mq_notify 245 mq_getsetattr"),
    *native("clocks and timers",
            "35 nanosleep 36 getitimer 37 alarm 38 setitimer 96 gettimeofday 100 times 159 adjtimex "
            "164 settimeofday 201 time 222 timer_create 223 timer_settime 224 timer_gettime "
            "225 timer_getoverrun 226 timer_delete 227 clock_settime 228 clock_gettime 229 clock_getres "
            "230 clock_nanosleep 305 clock_adjtime"),
    *native("identity of the process, as the kernel has it",
            "39 getpid 102 getuid 104 getgid 109 setpgid 110 getppid 111 getpgrp "
            "112 setsid 115 getgroups 121 getpgid 124 getsid 125 capget "
            "186 gettid"),
    *native("scheduling, limits and accounting",
            "98 getrusage 140 getpriority 141 setpriority 142 sched_setparam 143 sched_getparam "
            "144 sched_setscheduler 145 sched_getscheduler 146 sched_get_priority_max "
            "147 sched_get_priority_min 148 sched_rr_get_interval 203 sched_setaffinity "
            "204 sched_getaffinity 251 ioprio_set 252 ioprio_get 309 getcpu 314 sched_setattr "
            "315 sched_getattr"),
    *native("names and state of the machine; changes need privilege, as outside",
            "63 uname 95 umask 99 sysinfo 103 syslog 135 personality 136 ustat 139 sysfs 153 vhangup "
            "162 sync 169 reboot 170 sethostname 171 setdomainname 172 iopl 173 ioperm 175 init_module "
            "176 delete_module 246 kexec_load 298 perf_event_open 313 finit_module 318 getrandom "
            "320 kexec_file_load"),
    *native("keys have no path", "248 add_key 249 request_key 250 keyctl"),
    *native("restricts the caller further; it cannot take a restriction back",
            "317 seccomp 444 landlock_create_ruleset 445 landlock_add_rule 446 landlock_restrict_self "
            "459 lsm_get_self_attr 460 lsm_set_self_attr 461 lsm_list_modules"),
    *native("made by the kernel's own trampolines for probes", "335 uretprobe 336 uprobe"),
)  # fmt: skip

ROWS = tuple(sorted(_ROWS, key=lambda row: row.nr))

check(ROWS)
assert {row.nr for row in ROWS} == set(range(LAST + 1)) - set(FIRST_GAP), "every number has a row"


def engine_rows() -> Iterator[tuple[int, ...]]:
    """The handled rows as struct vu_row has them: nr, op, ten argument positions or -1, implied flags."""
    return (row.columns() for row in ROWS if row.level is Level.HANDLED)
