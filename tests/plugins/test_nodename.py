from vuosd.plugins.nodename import Nodename
from vuosd.testing import ModuleConformance


class TestNodename(ModuleConformance):
    module = Nodename(name="box")
