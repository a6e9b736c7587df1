"""The commands: `vuosd` (the daemon; also started by the launcher for one run) and `vuctl`.

vuosd.py    options of vuosd
main.py     vuctl: finds the command's file, imports only that
ps.py, check.py, show.py, doctor.py, stop.py, layers.py, diff.py, commit.py,
drop.py, export.py, branch.py, mount.py, umount.py, mounts.py,
insmod.py, rmmod.py, lsmod.py, new_plugin.py
            a command each: `configure(parser)`, `run(arguments) -> exit status`
layer_arguments.py, status.py, patches.py, trouble.py
            of the commands about layers: which layer, which paths; changes as text, JSON, patch; errors
machine.py  what `doctor` tries out
output.py   how vuctl prints
"""
