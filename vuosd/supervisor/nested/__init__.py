"""A view inside a view: from vuos-run's question to the end of the last process that is in it.

    vuos-run, in a view ──door──▶ mounting/asked.py ──▶ children.py ──▶ prepare.py ──▶ a mount namespace
         ▲                                                   │  the engine moves the caller into it
         └── the command's environment and directory ────────┘  ends.py: nobody is left in it

    prepare.py    profile → entries, as vuosd/supervisor/prepare.py for a view of its own
    children.py   the nested views of a session, made and ended

A nested view is no session: to the kernel it is the same filter, listener and Landlock domain. It has a mount
namespace of its own (engine/spaces.c), and what processes belong to it the kernel keeps with their tag.
"""
