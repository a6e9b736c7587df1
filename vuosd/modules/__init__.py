"""The process of a module: it answers system calls that a session's worker asks it about.

    worker (vuosd/supervisor/modules) ──calls──▶ host.py ──▶ the plugin's methods
                                      ◀─answers, and what is to be read from the caller's memory─

    load.py        from a module's name to its class
    host.py        the process: a thread receives, the main thread (trio) runs methods
    asked.py       one call, from its message to its answer
    results.py     what a method may return, and how the call gets it
    messages.py    what is said on the socket

The nouns: a *boundary* says which calls are a module's (vuosd.api.boundaries); a *call* waits for its answer.
"""
