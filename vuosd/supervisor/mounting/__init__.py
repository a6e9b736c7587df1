"""Mounting while a session runs: what a view's processes and `vuctl` ask for becomes an entry of the
mount table.

    mount(2), umount2(2), open("/dev/fuse") in the view ──▶ asked.py ─┐
    vuctl mount, umount, mounts ──daemon──▶ watch.py ─────────────────┴─▶ mounts.py ──▶ the mount table
                                                                              │
    helper.py: mounts FUSE in a namespace of its own, starts servers ◀── namespace.py

    mounts.py     the mounts of a session, as they come and change
    listed.py     … what is where, whose, since when
    unmounting.py … who uses one, EBUSY, and how it goes
    ending.py     … the end of servers by wire, and of the session
    mount.py      one of them; starting.py starts a server of ours
    mounter.py    puts the following together; runs as long as the session
    asked.py      answers the calls that the engine asks about: /dev/fuse, umount2(2), the door
    mount_call.py … mount(2) of what the caller serves, binds, moves, other flags, cows
    serve_call.py … mount(2) of a type of ours, whose server we start
    callers.py    what such calls name, and the way back to those who made them
    door.py       what our own commands ask inside a view, by an open that asked.py is asked about
    outside.py    what vuctl asks for
    profile.py    what a profile asks for
    stacking.py   copy-on-write entries that come while the session runs
    inside.py     servers that are processes of the view
    options.py    words and flags of mount(2)
    sockets.py    what such servers have for a /dev/fuse, by wire
    output.py     what servers of ours say
    types.py      from a file system's type to the program that serves it
    modules.py    VUOS's names of modules
    unreal.py     the tree of the view once more
    reloading.py  a plugin whose code has been changed
    family.py     what the mount namespaces of a session have in common
    confined.py   servers that vumount starts, as processes of the view
    reach.py      what those outside of the view may reach; bounds.py puts it on them
    users.py      who uses a mount
    sharing.py    several mounts of one server by wire
    losses.py     what could not be written, and who is told
    namespace.py  the worker's side of the helper; helper.py, native.py, libc.py are the helper
    warm.py       a server in Python that need not be executed, because the helper is what would be

The nouns: a *mount* is a file system, or part of a tree, that appeared while the session runs; its
*server* is the process that answers for it, *ours* when we have started it, else a process of the view;
its *transport* is how the two meet: "kernel" is a FUSE mount of the helper's, "wire" a socket to the
engine, "none" a bind.
"""
