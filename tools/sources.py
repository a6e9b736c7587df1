#!/usr/bin/env python3
"""Print the package's Python files (and py.typed), one a line, relative to vuosd/: what the wheel contains
beside the extension.

meson has no globs on purpose; a package of many small files wants one. Each build reconfigures, so a new file
is seen.
"""

import pathlib

root = pathlib.Path(__file__).parent.parent / "vuosd"
for path in sorted(root.rglob("*")):
    if path.suffix in {".py", ".pyi", ".toml", ".json"} or path.name == "py.typed":
        print(path.relative_to(root))
