"""Questions about a running daemon: vuctl asks, the daemon answers, in JSON over its control socket.

    vuctl ── client.ask("ps") ──▶ daemon ── server.answer ──▶ {"sessions": [...]} or {"error": "..."}

A *request* is an object with a "command"; a *reply* is an object, and has "error", a sentence, when the
request failed.
"""
