"""Emit the C source of vuosd.supervisor.engine._engine from api.h (cffi, API mode).

api.h is the single description: C compiles against it, cffi parses it. So it must stay within what both read:
declarations,
enums, plain structs, and no preprocessor lines other than the guard and #include, which are dropped here.
Every call through
the binding is made without the GIL; that is cffi's rule, not ours.

Usage: build.py API_H OUTPUT_C
"""

import re
import sys
from pathlib import Path

import cffi

PREPROCESSOR = re.compile(r"^[ \t]*#.*?(?<!\\)$", re.MULTILINE | re.DOTALL)


def glue(api: str) -> cffi.FFI:
    builder = cffi.FFI()
    builder.cdef(PREPROCESSOR.sub("", api))
    builder.set_source("vuosd.supervisor.engine._engine", '#include "api.h"\n', py_limited_api=True)
    return builder


def main() -> None:
    header, output = sys.argv[1:]
    glue(Path(header).read_text()).emit_c_code(output)


if __name__ == "__main__":
    main()
