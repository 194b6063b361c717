"""The slow scenarios of the explorer, shortened by one publish; `--slow` runs them in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.explore import explore
from model.scenarios import a_reader, make_scenario, reads, views

if TYPE_CHECKING:
    from model.explore import Scenario

SHORT = [
    make_scenario("two readers", a_reader(reads), a_reader(reads), last=3),
    make_scenario("two threads", a_reader(reads, threads=2), last=2, slots=3),
    make_scenario("two threads that take views", a_reader(views, threads=2), last=2, slots=3, retains=True),
    make_scenario("the writer killed at any step", a_reader(reads), last=4, killable=(0,), successor=True),
    make_scenario(
        "the high-water mark is lowered",
        a_reader(reads, closes=True),
        a_reader(reads, attached=False, closes=True),
        last=3,
        lowers=True,
    ),
]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_no_violation_in_shortened_scenarios(scenario: Scenario) -> None:
    outcome = explore(scenario)
    print(f"{outcome.states:,} states, {outcome.schedules:,} schedules, {outcome.longest_read} steps of a read")
    assert outcome.violation is None, "\n".join([str(outcome.violation), *outcome.trace])
    assert outcome.complete
