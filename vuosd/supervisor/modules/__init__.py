"""Modules of a session: plugins that answer system calls of its processes.

    engine ──asked──▶ loaded.py ──▶ process.py ──socket──▶ vuosd.modules.host, a process for each module

    loaded.py      those that are loaded: insmod, rmmod, reload; who answers a call, and what becomes of it
    process.py     one module's process: started, asked, ended
    boundaries.py  from what a class says it answers to claims of the engine and traps of the filter
    profile.py     the modules of a profile, which are there before the command is
    errors.py      how loading fails

The nouns: a *claim* is the engine's form of a boundary; a call that is *trapped* is heard of at all, which is
settled when the session starts.
"""
