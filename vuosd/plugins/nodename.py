"""nodename: another name for the machine, as uname(2) tells it. A sample of a module."""

import struct

from vuosd.api import Call, Calls, Module, ModuleOptions

_FIELD = 65
_FIELDS = struct.Struct(f"{_FIELD}s" * 6)
"""struct utsname: sysname, nodename, release, version, machine, domainname."""


class Nodename(Module):
    """Another name for the machine, as uname(2) tells it."""

    class Options(ModuleOptions):
        """name, domain: what uname(2) has to tell; left out, what the machine says."""

        name: str | None = None
        domain: str | None = None

    boundaries = (Calls(("uname",)),)

    def start(self) -> None:
        import os

        for text in (self.options.name, self.options.domain):
            if text is not None and not 0 < len(text.encode()) < _FIELD:
                raise ValueError(f'"{text}" cannot be a name: it has 1 to {_FIELD - 1} bytes')
        with open("/proc/sys/kernel/domainname", "rb") as file:
            domain = file.read().rstrip(b"\n")
        fields = [*map(os.fsencode, os.uname()), domain]
        fields[1] = fields[1] if self.options.name is None else self.options.name.encode()
        fields[5] = fields[5] if self.options.domain is None else self.options.domain.encode()
        self.answer = _FIELDS.pack(*fields)

    def uname(self, call: Call) -> None:
        call.write(call.args[0], self.answer)
