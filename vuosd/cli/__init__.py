"""The commands: `vuosd` (the daemon; also started by the launcher for one run) and `vuctl`.

    vuosd.py    options of vuosd
    main.py     vuctl: finds the command's file, imports only that
    ps.py, check.py, show.py, doctor.py, stop.py
                a command each: `configure(parser)`, `run(arguments) -> exit status`
    machine.py  what `doctor` tries out
    output.py   how vuctl prints
"""
