"""Optional dependencies: imported when they are needed, with an error that names the extra when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from shmsync.errors import MissingExtraError


def need(module: str, extra: str, purpose: str) -> Any:
    """Import and return an optional module.

    Args:
        module: what to import.
        extra: the extra of shmsync that brings it.
        purpose: what it is needed for, as the start of a sentence.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtraError(f"{purpose} needs {package}: pip install 'shmsync[{extra}]'", name=package) from None
