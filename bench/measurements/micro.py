"""One system call, or a few, again and again: the programs of bench/micro."""

from bench.measurements.row import Row, operations

_PLAIN = [
    # row, program, trips, targets
    ("getpid", "getpid", False, {"pass": "1.0x", "bind": "1.0x", "enforce": "1.0x"}),
    ("read 4 KiB", "read", False, {"pass": "1.0x", "bind": "1.0x", "enforce": "1.0x"}),
    ("write 4 KiB", "write", False, {"pass": "1.0x", "bind": "1.0x", "enforce": "1.0x"}),
    ("mmap+munmap", "mmap", False, {"pass": "1.0x", "bind": "1.0x", "enforce": "1.0x"}),
    ("stat, absolute", "stat", True, {"pass": "4 µs", "bind": "5 µs"}),
    ("stat, relative", "stat_relative", True, {"pass": "4 µs", "bind": "5 µs"}),
    ("stat, absent", "stat_absent", True, {}),
    ("stat, by a link", "stat_link", True, {}),
    ("open+close", "open_close", True, {"pass": "6 µs", "bind": "8 µs"}),
    ("create+unlink", "create_unlink", True, {}),
    ("readlink", "readlink", True, {}),
    ("chdir", "chdir", True, {}),
    ("getcwd", "getcwd", True, {}),
    ("getdents, 1000", "getdents", True, {}),
    ("fork+exec", "fork_exec", False, {"pass": "1.3x", "bind": "1.3x", "enforce": "1.3x"}),
]


def rows(budget: int) -> list[Row]:
    found = [
        Row(name, operations(program, budget=budget), trips=trips, target=target)
        for name, program, trips, target in _PLAIN
    ]
    for option, one, many in (("-t", "thread", "threads"), ("-p", "process", "processes")):
        for count in (1, 2, 4):
            take = operations("stat", option, str(count), budget=max(budget, 150))
            found.append(Row(f"stat, {count} {one if count == 1 else many}", take, trips=True))
    return found
