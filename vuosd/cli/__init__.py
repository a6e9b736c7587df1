"""The commands: `vuosd` (the daemon; also started by the launcher for one run) and `vuctl`.

    vuosd.py    options of vuosd
    main.py     vuctl: finds the command's file, imports only that
    ps.py, check.py, show.py, doctor.py, stop.py, layers.py, diff.py, commit.py
                a command each: `configure(parser)`, `run(arguments) -> exit status`
    layer_arguments.py, status.py, trouble.py
                of the commands about layers: which layer, which paths; changes as text and as JSON; errors
    machine.py  what `doctor` tries out
    output.py   how vuctl prints
"""
