"""Views for Linux processes: files, later devices, networks and clocks, as a profile says, unprivileged."""

__version__ = "0.1.0"
