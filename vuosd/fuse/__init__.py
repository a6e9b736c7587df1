"""File systems in Python, served as FUSE servers.

    host.py        `python -m vuosd.fuse.host SPEC --fd N`: the process that serves one file system
    load.py        SPEC → an instance of Filesystem or pyfuse3.Operations
    nodes.py       FUSE speaks of inode numbers, a Filesystem of paths: the one for the other, through
    renames and removals. No I/O calls.py       calls of the plugin's methods: in turn, as task or in a
    thread, with a deadline; what becomes of their errors checks.py      what the plugin returns makes
    sense, or is refused. No I/O operations.py  pyfuse3.Operations for a Filesystem: what each request asks
    of it tree.py        what is told of a node, and paths that stay right meanwhile; opened.py: open files
    libfuse.py     what libfuse says goes into our log
    kernel.py      a mount by the kernel that nobody sees
    guard.py       in front of any pyfuse3.Operations: their errors must not end the server

The five nouns: a *file system* (the plugin's object), a *node* (what the kernel knows by a number), a
*handle* (an open file), a *call* of the plugin, and the *session* with the kernel, which is libfuse's, by
pyfuse3.

pyfuse3 was chosen over a server side of our own since it keeps up with the protocol, is maintained with
libfuse, runs on trio, and its main loop takes an end of a socketpair for /dev/fuse (fuse_session_mount(3)
with /dev/fd/N)."""
