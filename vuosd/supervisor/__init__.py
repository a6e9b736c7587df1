"""From a launcher's request to a session that runs, and to its end.

    vuos-run ──RUN──▶ daemon.py ──the connection──▶ worker.py ──SETUP, READY──▶ vuos-run
                          │ "another spare"             ▲ forks, reaps
                          └──────▶ zygote.py ───────────┘
    vuos-run ──RUN──▶ private.py ──forks──▶ worker.py        (no daemon)
    vuos-run ──ENTER──▶ daemon.py ──the connection──▶ the worker of a session that runs: entering.py

    messages.py   what goes over the sockets        receive.py  how who is in trio waits for it
    runtime.py    the runtime directory: socket and lock of the daemon
    members.py    a session's processes, found by the tag that the kernel keeps on each
    request.py    what the launcher asks for, and the command it gets back
    worker.py     a session's life: handshake.py begins it, watch.py is what it waits for then, in trio
    running.py    what is known of it           permitted.py  what the machine permits a worker
    view.py       a profile on this machine
    prepare.py    profile → View → descriptors, or what is wrong with it; prepared.py is the result
    stacks.py     its cows and merges: what --cow adds, what is opened of them
    held.py       its layers: held while it lives, told of when it ends
    scratch.py    private directories of a session, and their removal
    mounting/     what is mounted while the session runs
    modules/      plugins that answer its system calls
    nested/       views inside the view        eyes.py  by whose eyes a profile is read
    session.py    the engine's session        values.py   what it is told, and tells
    filter.py     the BPF program             floor.py    the Landlock ruleset
    engine/       C: answers the notifications        log.py   lines on stderr

The nouns: the *daemon* is one process of a user, the *zygote* its warm child that only forks, a *worker*
serves one *session*, which a run of the launcher begins, and others may enter; the *spare* is a worker that
waits for its session;
the *members* of a session are the processes under its filter.
"""
