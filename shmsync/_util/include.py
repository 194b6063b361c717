"""Where the C header is."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """Return the folder that contains `shmsync.h`, for the include path of a C compiler.

    `python -m shmsync --include` prints it.
    """
    return str(Path(__file__).parent.parent / "include")
