"""Views for Linux processes: files, and later devices, networks and clocks, as a profile says, without privilege."""

__version__ = "0.1.0"
