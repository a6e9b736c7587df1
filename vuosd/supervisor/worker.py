"""One session, from the launcher's request to the end of its last process.

    receive RUN ─▶ prepare ─▶ SETUP ─▶ LISTENER ─▶ the engine starts ─▶ READY      (blocking)
    then trio: the keeper's socket, the listener's hang-up, the engine's log, the daemon's questions,
             what is mounted
    the end: members killed, engine stopped, directories removed, os._exit

The worker exits 0 when it has cleaned up itself; whatever else it ends with, the zygote (or the private
daemon's guard) does it.

It stays dumpable: a process in an enforcing view cannot trace or read what is outside its Landlock domain
(the ptrace_access_check hook of security/landlock/task.c), and without the flag /proc/self of an ordinary
user's worker would belong to root.
"""

import errno
import os
import resource
import select
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from vuosd.supervisor import filter, members, messages
from vuosd.supervisor.log import log
from vuosd.supervisor.messages import Message, SetupFlag, Type
from vuosd.supervisor.prepared import Prepared, Refused
from vuosd.supervisor.request import Request, RequestError, read
from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vuosd.supervisor.modules.loaded import Modules
    from vuosd.supervisor.modules.profile import Begun
    from vuosd.supervisor.mounting.family import Family
    from vuosd.supervisor.quota import Watcher
    from vuosd.views import View

_TEARDOWN_SECONDS = 30
_SHORT_MILLISECONDS = 50
_PIDFD_GETFD = 438


class Running:
    """A session that has been set up, and what is known of it."""

    def __init__(
        self, number: int, channel: socket.socket | None, zygote: socket.socket | None = None
    ) -> None:
        self.number = number
        self.connection: socket.socket
        self.channel = channel
        self.zygote = zygote
        """Which forks what this session needs; a private one has none."""
        self.scratch = Scratch(number)
        self.request: Request
        self.prepared: Prepared
        self.session: Session
        self.quota: Watcher | None = None
        self.listener = -1
        self.listener_number = 0
        self.child = 0
        self.keeper = 0
        self.status: int | None = None
        self.report: socket.socket | None = None
        """Of the launcher that ends last."""
        self.cookie = int.from_bytes(os.urandom(8), "little") | 1 << 32 | 1
        self.privileged = os.geteuid() == 0
        self.family: Family | None = None
        self.begun: Sequence[Begun] = ()
        """What a profile's modules are, until the session has them."""
        self.modules: Modules | None = None
        self.shape = filter.Shape(self.privileged, entries=False, mounts=True)
        self._take()

    def fit(self, prepared: Prepared) -> None:
        """The filter that was made while we were a spare is for views without entries."""
        traps = tuple(dict.fromkeys(trap for one in self.begun for trap in one.traps))
        entries = prepared.watched
        if not entries and not traps and prepared.controlled:
            return
        os.close(self.program)
        enforce = prepared.enforce
        self.shape = filter.Shape(
            self.privileged,
            enforce=enforce,
            sends=enforce and not _may_duplicate(),
            entries=entries,
            stacked=prepared.merges,
            carries=entries and self.privileged and not _may_trace_others(),
            mounts=prepared.controlled,
            traps=traps,
        )
        self._take()

    def _take(self) -> None:
        program = filter.build(cookie=self.cookie, shape=self.shape)
        self.program = messages.memfd("filter", program)
        self.program_length = len(program) // 8


def main(
    number: int,
    *,
    channel: socket.socket | None = None,
    zygote: socket.socket | None = None,
    connection: socket.socket | None = None,
) -> NoReturn:
    """The worker's life: a spare gets its launcher by `channel` from the daemon, a private one has it from
    the start.
    """
    status = 1
    try:
        members.mark_supervisor(number)
        status = _main(Running(number, channel, zygote), connection)
    except BaseException:
        log.exception("a worker failed")
    finally:
        os._exit(status)


def _main(running: Running, connection: socket.socket | None) -> int:
    number, channel = running.number, running.channel
    if channel is not None:
        _rehearse(number)
        message = messages.receive(channel)
        if message is None:
            return 0
        connection = socket.socket(fileno=message.fds[0])
        message = message._replace(fds=message.fds[1:])
    else:
        assert connection is not None
        try:
            message = messages.receive(connection)
        except messages.VersionError as error:
            messages.send_failure(connection, messages.version_failure(error.version))
            return 0
        if message is None:
            return 0
    running.connection = connection
    try:
        _establish(running, message)
    except Refused as refused:
        _give_up(running)
        messages.send_failure(connection, str(refused), refused.status)
        return 0
    except (BrokenPipeError, ConnectionResetError, EOFError):
        _give_up(running)
        return 0  # the launcher has gone, and with it the command
    except Exception as error:
        log.exception("a session could not be set up")
        _give_up(running)
        messages.send_failure(connection, f"vuosd: {type(error).__name__}: {error}")
        return 0
    if running.prepared.late or running.modules is not None or not _ends_soon(running):
        from vuosd.supervisor.watch import watch  # imports trio, which a private worker has not needed so far

        ended = watch(running)
        if ended.refused is not None:
            _stop(running)
            _give_up(running)
            messages.send_failure(connection, str(ended.refused), ended.refused.status)
            return 0
        if not ended.expected:
            log.info("session %x: ended: %s", number, ended.reason)
            if not members.kill(number):
                log.warning("session %x: some processes do not die", number)
    _tear_down(running)
    return 0


def _may_trace_others() -> bool:
    """CAP_SYS_PTRACE."""
    with open("/proc/self/status") as file:
        effective = next(line for line in file if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> 19 & 1)


def _rehearse(number: int) -> None:
    """Does once, for nobody, what stands between a request and the command: a forked process pays for each
    page that it first writes to, and a spare has the time.
    """
    from vuosd.supervisor.request import Request

    tag = number << members.STATE_BITS
    Request(b"profile\0\0name\0\0argc\0001\0x\0envc\0001\0X=1\0", b"/")
    os.close(messages.memfd("rehearsal", b"x"))
    _may_read(os.getpid())
    Session(tag=tag, cookie=1, broker=-1, enforce=False, privileged=False, broker_memory=False).stop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        messages.send(ours, Type.SETUP, messages.SETUP.pack(0, 0, 0), [0])
        message = messages.receive(theirs)
        assert message
        message.close()


def _ends_soon(running: Running) -> bool:
    """Most commands are short: such a session ends here, and needs no event loop (5 ms of CPU)."""
    poller = select.poll()
    poller.register(running.connection, select.POLLIN)
    if running.prepared.controlled:
        poller.register(running.session.asked_fd(), select.POLLIN)
    while ready := poller.poll(_SHORT_MILLISECONDS):
        if ready[0][0] != running.connection.fileno():
            return False
        message = messages.receive(running.connection, flags=socket.MSG_PEEK)
        if message is None or message.type not in (Type.EXITED, Type.BYE):
            return False
        messages.receive(running.connection)
        if message.type == Type.BYE:
            return True
        running.status = messages.PAIR.unpack(message.payload)[1]
    return False


def _establish(running: Running, message: Message) -> None:
    """The handshake; nobody else is to be served meanwhile, so it blocks."""
    connection = running.connection
    if message.type != Type.RUN or len(message.fds) not in (2, 3):
        raise Refused("vuosd: the launcher's first message is no request")
    try:
        running.request = request = read(*message.fds[:2])
        if len(message.fds) == 3:
            running.report = socket.socket(fileno=os.dup(message.fds[2]))
    except (RequestError, OSError) as error:
        raise Refused(f"vuosd: bad request: {error}") from None
    finally:
        message.close()
    prepared = running.prepared = _prepare(request, running.scratch)
    if prepared.view is not None and prepared.view.modules:
        running.begun = _begin_modules(prepared.view, running)
    running.fit(prepared)
    tag = running.number << members.STATE_BITS
    _send_setup(running, tag)
    broker = _receive_listener(running)
    session = running.session = Session(
        tag=tag,
        cookie=running.cookie,
        broker=broker,
        enforce=prepared.enforce,
        privileged=running.privileged,
        broker_memory=not _may_read(running.child),
        keeper=connection.fileno(),
        protected_links=_is_protected("symlinks"),
        protected_hardlinks=_is_protected("hardlinks"),
        mounts=prepared.controlled,
        fusermount=_fusermount() if prepared.controlled else -1,
    )
    for entry in prepared.placed:
        session.add(entry)
    for stack in prepared.stacked:
        session.add_stack(stack)
    if running.shape.traps:
        from vuosd.supervisor.modules.boundaries import ordinary

        session.announce(*ordinary(running.shape))
    running.listener_number = session.start(running.listener, prepared.start)
    if running.begun:
        _load_modules(running)
    limited = [stack for stack in prepared.stacked if stack.size]
    if limited:
        from vuosd.supervisor.quota import Watcher

        running.quota = Watcher(session, limited, running.number, running.child)
        running.quota.start()
    if running.channel is None:
        _let_go_of_stderr()
    if running.report is not None and not (prepared.layers and prepared.layers.announce(running.report)):
        if running.shape.stacked:  # there may be layers later
            from vuosd.supervisor.held import wait_for_layers

            wait_for_layers(running.report)
        elif not prepared.controlled:
            running.report.close()
            running.report = None
    if not prepared.late:
        messages.send(connection, Type.READY)


def _begin_modules(view: "View", running: Running) -> "Sequence[Begun]":
    """The processes of a profile's modules, ready; Refused."""
    from vuosd.supervisor.modules.profile import begin
    from vuosd.views import ProfileErrors

    try:
        return begin(view, running.number, running.request.variables())
    except ProfileErrors as errors:
        raise Refused(str(errors)) from None


def _load_modules(running: Running) -> None:
    """They answer from here on; Refused."""
    from vuosd.supervisor.modules.errors import ModuleError
    from vuosd.supervisor.modules.loaded import Modules

    env = running.request.variables()
    running.modules = Modules(running.number, running.session, running.shape, env)
    for one in running.begun:
        if one.process is not None:
            try:
                running.modules.add(one.process, load=one.entry.load)
            except ModuleError as error:
                raise Refused(f"vuosd: {error}") from None


def _as_asked_by(env: "Mapping[str, str]") -> None:
    """The plugins of whoever asks are looked for, not of whoever has started the daemon."""
    for name in ("HOME", "XDG_DATA_HOME"):
        if name in env:
            os.environ[name] = env[name]
        else:
            os.environ.pop(name, None)


def _prepare(request: Request, scratch: Scratch) -> Prepared:
    _as_asked_by(request.variables())
    if request.plain:
        return Prepared(os.fsdecode(request.name) or "pass-through", request.command)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each entry has a descriptor
    from vuosd.supervisor.prepare import prepare

    return prepare(request, scratch)


def _send_setup(running: Running, tag: int) -> None:
    prepared = running.prepared
    flags = prepared.setup
    fds = [running.program, messages.memfd("command", prepared.command)]
    if prepared.landlock is not None:
        fds.append(prepared.landlock)
    if prepared.cwd is not None:
        flags |= SetupFlag.CWD
        fds.append(prepared.cwd)
    try:
        payload = messages.SETUP.pack(flags, running.program_length, tag)
        messages.send(running.connection, Type.SETUP, payload, fds)
    finally:
        # Program and floor are kept for launchers that enter later, which only a daemon can send us.
        kept = (running.program, prepared.landlock) if running.channel is not None else ()
        for fd in fds:
            if fd not in kept:
                os.close(fd)


def _receive_listener(running: Running) -> int:
    """Fills in listener, child and keeper; returns the broker socket."""
    message = messages.receive(running.connection)
    if message is None:
        raise EOFError  # the launcher has said itself what went wrong
    if message.type != Type.LISTENER or len(message.fds) != 2:
        message.close()
        raise Refused("vuosd: the launcher sent no listener")
    running.child, running.keeper = messages.PAIR.unpack(message.payload)
    running.listener = message.fds[0]
    return message.fds[1]


def _may_read(pid: int) -> bool:
    """Whether this process may look into the child's memory, or only its ancestors may (Yama, ptrace(2))."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    byte = ctypes.create_string_buffer(1)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(byte), 1)
    remote = (ctypes.c_void_p * 2)(8, 1)  # unmapped: EFAULT comes after the permission
    result = libc.process_vm_readv(
        pid, local, ctypes.c_ulong(1), remote, ctypes.c_ulong(1), ctypes.c_ulong(0)
    )
    return bool(result >= 0 or ctypes.get_errno() == 14)


def _is_protected(kind: str) -> bool:
    """The sysctl fs.protected_KIND.

    symlinks: those in sticky directories that everybody may write to are followed by their owner alone.
    hardlinks: files are linked only by who owns them, or may read and write them.
    """
    try:
        with open(f"/proc/sys/fs/protected_{kind}", "rb") as file:
            return file.read(1) != b"0"
    except OSError:
        return False  # a /proc without it (a container's may be masked): then it cannot be known


def _fusermount() -> int:
    """What stands in for fusermount3 where a filter around us, Docker's for one, refuses mount(2): our own
    commands, which need no such call. Elsewhere -1.
    """
    with open("/proc/self/status", "rb") as file:
        if b"\nSeccomp:\t2\n" not in file.read():
            return -1
    import ctypes
    import sysconfig

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(None, None, None, ctypes.c_ulong(0), None)
    if ctypes.get_errno() == errno.EFAULT:
        return -1  # the kernel has looked at it
    program = os.path.join(sysconfig.get_path("scripts"), "vumount")
    try:
        return os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        log.warning("%s: %s: FUSE servers cannot mount in this container", program, error.strerror)
        return -1


def _may_duplicate() -> bool:
    """Whether pidfd_getfd(2) can be had on this machine: Docker's default profile refuses it, and Yama to all
    but ancestors.
    """
    import ctypes

    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", "rb") as file:
            if file.read(1) != b"0":
                return False
    except OSError:
        pass  # no Yama
    own = os.pidfd_open(os.getpid())
    try:
        copy = ctypes.CDLL(None).syscall(_PIDFD_GETFD, own, own, 0)
        if copy >= 0:
            os.close(copy)
        return bool(copy >= 0)
    finally:
        os.close(own)


def _let_go_of_stderr() -> None:
    """A private worker has it from the launcher, for a start that fails; a reader of that pipe must see its
    end.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _tear_down(running: Running) -> None:
    _stop(running)
    if running.prepared.layers is not None:
        running.prepared.layers.finish(running.report)
    running.scratch.remove()


def _stop(running: Running) -> None:
    # A thread that never comes back from the kernel must not keep the session: then SIGALRM ends us, and the
    # zygote cleans up.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_TEARDOWN_SECONDS)
    if running.quota is not None:
        running.quota.stop()
    if running.modules is not None:
        running.modules.finish()
    if running.family is not None:
        from vuosd.supervisor.mounting.ending import finish

        finish(running.family)
    running.session.stop()
    signal.alarm(0)


def _give_up(running: Running) -> None:
    """There will be no session."""
    prepared: Prepared | None = getattr(running, "prepared", None)
    if prepared is not None and prepared.layers is not None:
        prepared.layers.finish(None)
    if running.begun:
        from vuosd.supervisor.modules.profile import end

        end(running.begun)
    running.scratch.remove()
