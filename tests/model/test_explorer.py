"""The protocol under every interleaving, and the same search in code that is known to be wrong.

`python tools/explore.py` prints what is searched, and with `--mutants` the shortest failing schedules in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.explore import Search, explore
from model.mutants import MUTANTS
from model.process import Automaton, Process
from model.scenarios import a_reader, cast, deep, gets, reads, standard

if TYPE_CHECKING:
    from model.explore import Scenario
    from model.mutants import Mutant

DEEP_SECONDS = 600.0
SLOW = {"two readers", "two threads", "two threads that take views", "the writer killed at any step"}
SCENARIOS = [pytest.param(each, id=each.name, marks=[pytest.mark.slow] * (each.name in SLOW)) for each in standard()]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_violated(scenario: Scenario) -> None:
    outcome = explore(scenario)
    print(f"{outcome.states:,} states, {outcome.schedules:,} schedules, {outcome.longest_read} steps of a read")
    assert outcome.violation is None, "\n".join([str(outcome.violation), *outcome.story])
    assert outcome.complete


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", deep(), ids=lambda scenario: scenario.name)
def test_nothing_is_violated_deep_down(scenario: Scenario, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--deep"):
        pytest.skip("needs --deep, and ten minutes")
    outcome = explore(scenario, seconds=DEEP_SECONDS)
    print(f"{outcome.states:,} states, {outcome.schedules:,} schedules, complete: {outcome.complete}")
    assert outcome.violation is None, "\n".join([str(outcome.violation), *outcome.story])


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_found(mutant: Mutant) -> None:
    with mutant.applied():
        outcome = explore(mutant.scenario())
    print(*outcome.story, sep="\n")
    assert outcome.violation is not None, f"nothing found in {outcome.states} states"


def test_equal_places_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place tells all that matters: whichever way a process came there, the same history replayed leads there too."""
    compared = 0

    def compare(automaton: Automaton, process: Process, history: tuple[tuple[int, object], ...]) -> int:
        nonlocal compared
        number = enter(automaton, process, history)
        other = automaton.replayed(automaton.nodes[number].history)
        assert other.ops() == automaton.nodes[number].ops
        assert enter(automaton, other, history) == number
        compared += 1
        return number

    enter = Automaton._enter
    monkeypatch.setattr(Automaton, "_enter", compare)
    scenario = cast("both kinds", a_reader(reads, gets, closes=True), last=4, retains=True)
    assert Search(scenario).run(60.0).violation is None
    assert compared > 1000


def test_an_endless_reader_is_found() -> None:
    """Invariant 2: a reader that tries until the version stands still is not wait-free."""

    def insists(port: object, reader: object) -> int:
        version = reader._attachment.version  # type: ignore[attr-defined]
        while True:
            seq: int = version.load()
            if version.load() == seq:
                return seq

    scenario = cast("a reader that insists", a_reader(insists), last=14)
    assert "own steps" in str(explore(scenario).violation)


def test_a_blocked_process_is_found() -> None:
    def waits(port: object, reader: object) -> int:
        port.do("after", 1)  # type: ignore[attr-defined]
        return 0

    assert "is blocked" in str(explore(cast("a reader that waits for itself", a_reader(waits), last=3)).violation)
