"""procinfo and the toolkit it is made of."""

import errno
import os

import pytest

from vuosd.plugins.procinfo import Procinfo
from vuosd.testing import serving, transports
from vuosd.testing.reading import refused


@pytest.mark.parametrize("transport", transports())
def test_values(transport) -> None:
    with serving(Procinfo(greeting="good morning"), transport) as served:
        place = served.place
        assert place.names("/") == ["descriptors", "greeting", "load", "server", "time"]
        assert place.read("/greeting") == b"good morning\n"
        assert place.read("/server/pid") == b"%d\n" % served.pid
        place.write("/greeting", b"good night\n", os.O_TRUNC)
        assert place.read("/greeting") == b"good night\n"
        refused(errno.EINVAL, place.write, "/greeting", b"\n", os.O_TRUNC)
        assert place.read("/greeting") == b"good night\n"
        refused(errno.EACCES, place.open, "/load", os.O_WRONLY)
        refused(errno.ENOENT, place.lstat, "/server/nothing")
        assert place.read("/descriptors/2").endswith(b" (deleted)\n")
        assert served.log() == ""
