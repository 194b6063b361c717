"""The reader of `shmsync.h` under every interleaving with the shipped writer; and variants of it that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from model.c_reader import a_c_reader, overlaps, reads, retains, retains_two
from model.explore import explore
from model.scenarios import a_reader, gets, make_scenario

if TYPE_CHECKING:
    from model.explore import Scenario

SCENARIOS = [
    make_scenario("two reads in C", a_c_reader(reads, reads), last=5, killable=(1,)),
    make_scenario("snapshots that overlap in C", a_c_reader(overlaps), last=5, slots=3),
    make_scenario("a reader in C that retains", a_c_reader(retains, retains), last=5, retains=True),
    make_scenario("a reader in C that retains two", a_c_reader(retains_two), last=4, slots=3, retains=True),
    make_scenario("two more publishes, retained in C", a_c_reader(retains_two), last=6, slots=3, retains=True),
    make_scenario(
        "the writer killed at any step, read in C",
        a_c_reader(reads, retains),
        last=4,
        killable=(0,),
        successor=True,
        retains=True,
    ),
    make_scenario(
        "snapshots that overlap and are retained in C, killed at any step",
        a_c_reader(overlaps, retains_two),
        last=5,
        slots=3,
        retains=True,
        killable=(1,),
    ),
    make_scenario("a reader in C and one in Python", a_c_reader(retains), a_reader(gets), last=3, retains=True),
    make_scenario("aborted writes, read in C", a_c_reader(reads, reads), last=4, aborts=True),
    make_scenario("two readers in C", a_c_reader(reads), a_c_reader(reads), last=3),
]
BUGS: dict[str, tuple[Any, ...]] = {
    "no re-check": (reads, reads),
    "no re-check on the fast path": (reads, reads),
    "no look at EVICTED": (reads, reads),
    "the hazard is stored after leaving": (retains, retains),
    "the hazard of a newer generation is cleared": (retains_two,),
    "the hazard is cleared with the first of two snapshots": (retains_two,),
}


SLOW = {
    *("two more publishes, retained in C", "the writer killed at any step, read in C"),
    *("snapshots that overlap and are retained in C, killed at any step", "a reader in C and one in Python"),
}
PARAMETERS = [pytest.param(each, id=each.name, marks=[pytest.mark.slow] * (each.name in SLOW)) for each in SCENARIOS]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", PARAMETERS)
def test_no_violation(scenario: Scenario) -> None:
    outcome = explore(scenario)
    print(f"{outcome}, {outcome.longest_read} steps of a read")
    assert outcome.violation is None, str(outcome)
    assert outcome.complete


@pytest.mark.timeout(0)
@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_is_found(bug: str) -> None:
    reader = a_c_reader(*BUGS[bug], bug=bug)
    outcome = explore(make_scenario(bug, reader, last=6, slots=3, retains="hazard" in bug))
    print(outcome)
    assert outcome.violation is not None, f"nothing found in {outcome.states} states"
