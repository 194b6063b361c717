"""Tables: values that are published by updates, and carry a digest of each row, and the sum of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stress.settings import Violation

if TYPE_CHECKING:
    import random

ROWS = 4096
"""128 KiB: large enough that the writer knows what is stale."""
_ROW, _VERSION, _CONTENT, _DIGEST = range(4)
_PRIMES = np.array([0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
_MANY = 400


def new_rows(rng: random.Random, number: int) -> np.ndarray[Any, Any]:
    """Return all rows: their numbers, the number of the version that has written them, content, and a digest."""
    return rows_of(rng, np.arange(ROWS), number)


def rows_of(rng: random.Random, selected: np.ndarray[Any, Any], number: int) -> np.ndarray[Any, Any]:
    """Return new content for some rows."""
    rows = np.zeros((len(selected), 4), np.uint64)
    rows[:, _ROW] = selected
    rows[:, _VERSION] = number
    rows[:, _CONTENT] = np.frombuffer(rng.randbytes(8 * len(selected)), np.uint64)
    rows[:, _DIGEST] = _digests(rows)
    return rows


def _digests(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    mixed: np.ndarray[Any, Any] = rows[:, :_DIGEST] * _PRIMES
    mixed ^= mixed >> np.uint64(29)
    digests: np.ndarray[Any, Any] = mixed.sum(axis=1, dtype=np.uint64) * _PRIMES[0]
    return digests


def total_of(rows: np.ndarray[Any, Any]) -> int:
    """Return the sum of the digests, modulo 2^64."""
    return int(rows[:, _DIGEST].sum(dtype=np.uint64))


def selected_rows(rng: random.Random) -> np.ndarray[Any, Any]:
    """Return the numbers of some rows, distinct."""
    return np.array(sorted(rng.sample(range(ROWS), rng.choice([1, 3, 50, _MANY]))))


def change(draft: Any, rng: random.Random, number: int, *, restarted: bool = False) -> None:
    """Change some rows of a table, and the sum; count the update.

    Args:
        draft: the draft.
        rng: random choices.
        number: the sequence number that is expected; 0 if unknown.
        restarted: whether the count of versions has started over since the last update.
    """
    is_counted = number and draft["base"] and not restarted
    draft["base"], draft["updates"] = (draft["base"], draft["updates"] + 1) if is_counted else (number, 0)
    selected = selected_rows(rng)
    rows, before = rows_of(rng, selected, number), np.array(draft["rows"][selected])
    if rng.randrange(2):
        draft["rows"][selected] = rows
    else:
        for row, content in zip(selected, rows, strict=True):
            draft["rows"][row] = content
    draft["total"] = (draft["total"] + total_of(rows) - total_of(before)) % (1 << 64)


def scribble(draft: Any, rng: random.Random) -> None:
    """Damage rows of a draft that will not be published."""
    draft["rows"][selected_rows(rng)] = rng.getrandbits(64)
    draft["rows"][rng.randrange(ROWS) :] += 1


def verify_table(value: Any, seq: int, *, restarted: bool) -> None:
    """Check all rows, their sum, and that no update was lost.

    Args:
        value: the table.
        seq: its sequence number; 0 if unknown.
        restarted: whether the count of versions may have started over.

    Raises:
        Violation: a row is damaged or at another place, rows are of different versions, or an update began with an
            older version than the newest.
    """
    expected = value["base"] + value["updates"]
    if seq and value["base"] and seq != expected and not restarted:
        raise Violation(f"version {seq} of the table contains {value['updates']} updates of version {value['base']}")
    rows = np.asarray(value["rows"])
    # Not array_equal: it takes an exception of a signal handler for a difference.
    if (rows[:, _ROW] != np.arange(ROWS)).any() or (rows[:, _DIGEST] != _digests(rows)).any():
        raise Violation(f"version {seq}: a row of the table is damaged")
    if total_of(rows) != value["total"]:
        raise Violation(f"version {seq}: the rows of the table are not those of one version")
