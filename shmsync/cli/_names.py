"""Names on the command line: patterns such as 'web-*', and shell completion."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import shmsync
from shmsync.errors import ShmSyncError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PATTERN = re.compile(r"[*?[]")  # none of them may be part of a name


class NoMatchError(ShmSyncError, LookupError):
    """No name matches a pattern."""


def is_pattern(text: str) -> bool:
    """Return whether a text is a pattern, not a name."""
    return bool(_PATTERN.search(text))


def expand(texts: Iterable[str], existing: Iterable[str]) -> list[str]:
    """Replace patterns by the names that match them, without duplicates, in the order given.

    Raises:
        NoMatchError: no name matches a pattern.
    """
    existing = list(existing)
    found: dict[str, None] = {}
    for text in texts:
        matching = [name for name in existing if fnmatchcase(name, text)] if is_pattern(text) else [text]
        if not matching:
            raise NoMatchError(f"no name matches {text!r}; `shmsync ls` lists the names on this host")
        found.update(dict.fromkeys(matching))
    return list(found)


def complete(incomplete: str) -> list[str]:
    """Return the names that begin with a text, for shell completion."""
    try:
        return [name for name in shmsync.names() if name.startswith(incomplete)]
    except ShmSyncError:
        return []
