"""The daemon's side: one function for each command of vuctl."""

import os
import time
from collections import Counter
from typing import Any

import msgspec
import trio

from vuosd import __version__
from vuosd.supervisor import members
from vuosd.supervisor.daemon import Daemon, Unclear, Worker

Reply = dict[str, Any]

_MOUNT_SECONDS = 60.0


async def answer(daemon: Daemon, request: bytes) -> bytes:
    """The reply to a request, both JSON."""
    try:
        asked = msgspec.json.decode(request, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return msgspec.json.encode({"error": f"not a request: {error}"})
    command = asked.pop("command", None)
    handler = _COMMANDS.get(command) if isinstance(command, str) else None
    if handler is None:
        return msgspec.json.encode(
            {"error": f"unknown command {command!r}: vuctl and vuosd are of different versions"}
        )
    try:
        return msgspec.json.encode(await handler(daemon, asked))
    except Unclear as error:
        return msgspec.json.encode({"error": str(error)})


async def ping(daemon: Daemon, asked: Reply) -> Reply:
    return {
        "pid": os.getpid(),
        "version": __version__,
        "started": daemon.started,
        "sessions": len(daemon.sessions),
    }


async def ps(daemon: Daemon, asked: Reply) -> Reply:
    """All sessions of the daemon, and the numbers of those that others supervise."""
    tags = list(members.tagged())
    count = Counter(tag.session for _, tag in tags if tag.state < members.SERVER)
    supervisors = {tag.session: pid for pid, tag in tags if tag.state == members.SUPERVISOR}
    sessions: list[Reply] = []
    async with trio.open_nursery() as nursery:
        for worker in sorted(daemon.sessions, key=lambda worker: worker.since):
            if worker.about is not None:
                row = {
                    **worker.about,
                    "since": worker.since,
                    "age": max(0.0, time.time() - worker.since),
                    "processes": count[worker.about["session"]],
                    "worker": supervisors.get(worker.about["session"]),
                }
                sessions.append(row)
                nursery.start_soon(_add_stats, row, worker)
    known = {row["session"] for row in sessions}
    others = [
        {"session": number, "worker": supervisors.get(number), "processes": count[number]}
        for number in sorted(set(count) - known)
    ]
    return {"pid": os.getpid(), "version": __version__, "sessions": sessions, "others": others}


async def _add_stats(row: Reply, worker: Worker) -> None:
    row["stats"] = await worker.ask("stats")


def _find(daemon: Daemon, wanted: object) -> Worker:
    """The one session meant by name, by its number, or by the number of any process in it; or Unclear."""
    found = [worker for worker in daemon.sessions if worker.about and _matches(worker.about, wanted)]
    if not found:
        raise Unclear(
            "no view is running"
            if wanted is None
            else f"no view named {wanted!r}, and no process of that number in one"
        )
    if len(found) > 1:
        listed = ", ".join(
            f"{worker.about['name']} ({worker.about['pid']})" for worker in found if worker.about
        )
        raise Unclear(f"which one? {listed}: give the number of a process")
    return found[0]


def find(daemon: Daemon, wanted: str) -> tuple[Worker, int]:
    """As supervisor.daemon.Find."""
    return _find(daemon, wanted), _state(wanted)


async def show(daemon: Daemon, asked: Reply) -> Reply:
    """One session."""
    found = _find(daemon, asked.get("view"))
    shown = await found.ask("show")
    if shown is None:
        return {"error": "the view's worker does not answer"}
    shown["since"] = found.since
    shown["processes"] = members.of_session(shown["session"])
    return shown


async def mounting(daemon: Daemon, asked: Reply) -> Reply:
    """What concerns the mounts of one session: its worker knows."""
    view = asked.pop("view", None)
    found = _find(daemon, view)
    answer = await found.ask(asked.pop("ask"), seconds=_MOUNT_SECONDS, **asked, state=_state(view))
    return {"error": "the view's worker does not answer"} if answer is None else answer


def _state(view: object) -> int:
    """The state of the process by whose number a view is meant: it may be in a nested one."""
    tag = members.tag_of(int(view)) if isinstance(view, str) and view.isdigit() and len(view) < 10 else None
    return tag.state if tag is not None else 0


def _matches(about: Reply, wanted: object) -> bool:
    if wanted is None or wanted == about["name"]:
        return True
    if isinstance(wanted, str) and wanted.isdigit():
        tag = members.tag_of(int(wanted)) if len(wanted) < 10 else None
        return int(wanted) in (about["pid"], about["keeper"]) or (
            tag is not None and tag.session == about["session"]
        )
    return False


async def stop(daemon: Daemon, asked: Reply) -> Reply:
    running = len(daemon.sessions)
    if running and not asked.get("force"):
        what = "1 session is running" if running == 1 else f"{running} sessions are running"
        return {"error": f"{what}; `vuctl stop --force` ends {'it' if running == 1 else 'them'} too"}
    daemon.stop()
    return {"pid": os.getpid(), "sessions": running}


_COMMANDS = {"ping": ping, "ps": ps, "show": show, "mounting": mounting, "stop": stop}
