"""`vuctl show [VIEW]`: one view."""

import argparse
import time
from typing import Any

from vuosd.cli import view_argument
from vuosd.cli.output import age, command_line, fail, print_json, print_text, table
from vuosd.control.client import ControlError, ask


def configure(parser: argparse.ArgumentParser) -> None:
    view_argument.add(parser)


def run(arguments: argparse.Namespace) -> int:
    try:
        reply = ask("show", view=arguments.view)
    except ControlError as error:
        return fail(error)
    if arguments.json:
        print_json(reply)
    else:
        _print(reply)
    return 0


def _source(entry: dict[str, Any]) -> str:
    source = " ".join(entry.get("sources", [entry["source"]]))
    return f"{source} (layer {entry['layer']})" if entry.get("layer") else source


def _module(module: dict[str, Any]) -> str:
    if module["dead"]:
        return f"{module['name']} (has ended: {module['dead']})"
    waits = f", {module['waiting']} calls wait" if module["waiting"] else ""
    return f"{module['name']} (process {module['process']}{waits})"


def _print(view: dict[str, Any]) -> None:
    processes = view["processes"]
    listed = " ".join(map(str, processes[:12])) + (" …" if len(processes) > 12 else "")
    facts = {
        "view": view["name"],
        "profile": view["profile"] or ("none" if view["entries"] else "none: everything passes through"),
        "command": command_line(view["command"], 200),
        "entered by": "; ".join(
            f"{one['pid']} {command_line(one['command'])}"
            + (f" (in nested view {one['namespace']})" if one["namespace"] else "")
            for one in view["entered"]
        )
        or "nobody",
        "directory": view["cwd"],
        "running for": age(time.time() - view["since"]),
        "processes": f"{len(processes)}: {listed}",
        "enforce": "yes" if view["enforce"] else "no",
        "when vuos-run is killed": "its processes live on"
        if view["keep_tree"]
        else "its processes are killed",
        "modules": ", ".join(map(_module, view["modules"])) or "none",
        "calls": ", ".join(f"{count} {name}" for name, count in view["stats"].items()),
    }
    for name, value in facts.items():
        print_text(f"{name + ':':25}{value}")
    if view["entries"]:
        print()
        rows = [
            (entry["type"], "read-only" if entry["readonly"] else "", entry["target"], _source(entry))
            for entry in view["entries"]
        ]
        table(("TYPE", "", "TARGET", "SOURCE"), rows)
    env = view["env"]
    if any(env.values()):
        print()
        for name in ("unset", "keep"):
            if env[name]:
                print_text(f"{name}: {' '.join(env[name])}")
        for name, value in env["set"].items():
            print_text(f"set: {name}={value}")
    if view["log"]:
        print()
        for line in view["log"]:
            print_text(line)
