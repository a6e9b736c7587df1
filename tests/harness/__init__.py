"""Runs programs natively and in a view, as several users and in several places, and sees that nothing is left
behind.

    identity ─▶ Installation ─┐
    place ────▶ wrapper ──────┼─▶ Box: native(argv), view(argv, profile) ─▶ Result
    leaks.Census before and after: processes, mounts, files, the daemon's descriptors

    identities.py    who: root and an unprivileged user (as root), or oneself
    installation.py  an installed vuosd that this user can reach
    places.py        where: plain, no user namespaces, no /dev/fuse, Docker's seccomp profile, memory for
    ancestors only
    processes.py     the process tree below us: members, killing, waiting with a deadline
    leaks.py         what must not be left
    box.py           the fixture's object
    programs.py      tiny C programs, compiled once

Nouns: an *identity* is a uid with a home, a *place* restricts what the kernel gives, a *box* is one test's
scratch directory with
both. Waiting is always polling with a deadline: nothing sleeps for a guessed time.
"""
