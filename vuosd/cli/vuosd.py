"""`vuosd`: the daemon. The options are read by hand: the launcher waits for `--private`, and argparse costs
10 ms.
"""

import sys

USAGE = """\
usage: vuosd [--help] [--version]

Serves vuos-run on $XDG_RUNTIME_DIR/vuosd/control until SIGTERM, SIGINT or `vuctl stop`, which end the views
that still run. vuos-run works without it, and then starts a private one for each run.

environment:
  XDG_RUNTIME_DIR   where the control socket is made
  VUOSD_LOG         file for the log, instead of stderr
  VUOSD_LOG_LEVEL   debug, info, warning or error
"""


def main() -> int:
    arguments = sys.argv[1:]
    if len(arguments) == 1 and arguments[0].startswith("--private="):
        number = arguments[0].removeprefix("--private=")
        if number.isascii() and number.isdigit():
            from vuosd.supervisor import private

            private.main(int(number))
    if arguments in (["--help"], ["-h"]):
        print(USAGE, end="")
        return 0
    if arguments == ["--version"]:
        from vuosd import __version__

        print(f"vuosd {__version__}")
        return 0
    if arguments:
        print(f"vuosd: unknown argument {arguments[0]!r}\n{USAGE}", end="", file=sys.stderr)
        return 2
    return _serve()


def _serve() -> int:
    from vuosd.supervisor.runtime import Running, RuntimeUnavailable

    try:
        from vuosd.control.server import answer, find
        from vuosd.supervisor.daemon import start

        return start(answer, find)
    except (Running, RuntimeUnavailable) as error:
        print(f"vuosd: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
