"""How many Python steps the hot paths take, counted as in `tools/bench/steps.py`. No load of the machine changes it.

The bounds are what has been reached, so a step that is added is noticed. Lower them when a path becomes shorter.
"""

from __future__ import annotations

import sys

import pytest

from shmsync._shm import atomics

pytest.importorskip("numpy")

from bench.steps import COUNTED, Steps, steps_of

CALLS = {
    "write, 1 KiB dict, one reader": 7,
    "get(), unchanged": 1,
    "get() after a change, 1 KiB": 4,
    "get() after a change, 1M doubles": 15,
    "get() after a change and a lookup, ArrayMap of 100,000": 23,
    "with read(), unchanged raw": 5,
    "wait(), after its sleep": 7,
}
"""By row: the most calls of Python functions. The same for all versions of Python."""

INSTRUCTIONS = {
    (3, 10): dict(zip(CALLS, (341, 18, 200, 488, 665, 126, 117), strict=True)),
    (3, 11): dict(zip(CALLS, (360, 18, 200, 518, 708, 129, 116), strict=True)),
    (3, 12): dict(zip(CALLS, (322, 18, 186, 461, 634, 119, 108), strict=True)),
    (3, 13): dict(zip(CALLS, (320, 17, 181, 470, 629, 122, 107), strict=True)),
}
"""By version of Python and row: the most bytecode instructions. Each version compiles to others."""


@pytest.mark.skipif(not (atomics.IS_TSO and atomics.are_fast()), reason="other words take more steps")
@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a coverage tool counts, too")
@pytest.mark.parametrize("row", COUNTED)
def test_steps(row: str) -> None:
    count, _ = COUNTED[row]
    found = count()
    print(row, found)
    assert found.calls <= CALLS[row]
    assert found.instructions <= INSTRUCTIONS.get(sys.version_info[:2], {}).get(row, sys.maxsize)


def test_each_step_counts() -> None:
    def one() -> int:
        return 1

    def two() -> int:
        return one() + one()

    single, double = steps_of(lambda: one()), steps_of(lambda: two())  # noqa: PLW0108 - the lambda does not count
    assert single.calls == 1
    assert double.calls == 3
    assert double.instructions > 2 * single.instructions
    assert Steps(*single) == single
