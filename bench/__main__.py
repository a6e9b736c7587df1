"""`python bench`, from anywhere."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)

from bench.main import main  # noqa: E402

sys.exit(main())
