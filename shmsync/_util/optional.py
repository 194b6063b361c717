"""Optional dependencies: imported on first use, with an error that names the extra to install."""

from __future__ import annotations

import importlib
from typing import Any

from shmsync.errors import MissingExtraError


def import_optional(module: str, extra: str, purpose: str) -> Any:
    """Import and return an optional module.

    Args:
        module: dotted name of the module.
        extra: the extra of shmsync that installs it.
        purpose: the feature that requires it, as the subject of the error message.

    Raises:
        MissingExtraError: the module's package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtraError(f"{purpose} needs {package}: pip install 'shmsync[{extra}]'", name=package) from None
