"""`vuctl doctor`: what this machine gives to views, what is missing, and why it matters. Exit 0 if views can
run.
"""

import argparse

from vuosd.cli.output import print_json, print_text


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from vuosd.cli.machine import GOOD, MISSING, findings

    found = findings()
    runs = not any(finding.state == MISSING for finding in found)
    if arguments.json:
        print_json({"runs": runs, "findings": [finding._asdict() for finding in found]})
        return 0 if runs else 1
    width = max(len(finding.name) for finding in found)
    for finding in found:
        print_text(f"{finding.state:8}{finding.name:{width}}  {finding.found}")
        if finding.state != GOOD:
            print_text(f"{'':8}{'':{width}}  {finding.why}")
    print()
    print("Views run here." if runs else "Views do not run here: see what is missing above.")
    return 0 if runs else 1
