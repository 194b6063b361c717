"""The scenarios of the explorer that take long, with one publish less; `--slow` has them in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.explore import explore
from model.scenarios import a_reader, cast, reads, views

if TYPE_CHECKING:
    from model.explore import Scenario

SHORT = [
    cast("two readers", a_reader(reads), a_reader(reads), last=3),
    cast("two threads", a_reader(reads, threads=2), last=2, slots=3),
    cast("two threads that take views", a_reader(views, threads=2), last=2, slots=3, retains=True),
    cast("the writer killed at any step", a_reader(reads), last=4, mortal=(0,), successor=True),
]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_nothing_is_violated_in_short(scenario: Scenario) -> None:
    outcome = explore(scenario)
    print(f"{outcome.states:,} states, {outcome.schedules:,} schedules, {outcome.longest_read} steps of a read")
    assert outcome.violation is None, "\n".join([str(outcome.violation), *outcome.story])
    assert outcome.complete
