"""Search the protocol under every interleaving, and do the same for variants that are known to be wrong.

    pytest tests/model -rP                  # print how many states each scenario has
    pytest tests/model --explore-deep 600   # also search larger scenarios, each for up to 600 seconds
    pytest tests/model --explore-mutants    # print the shortest failing schedule of each mutant

The last two print while they run, so do not add `-n`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.explore import Search, explore
from model.mutants import MUTANTS
from model.process import Automaton, Process
from model.scenarios import a_reader, deep, gets, make_scenario, reads, standard

if TYPE_CHECKING:
    from model.explore import Scenario
    from model.mutants import Mutant

SLOW = {
    *("two readers", "two threads", "two threads that take views", "the writer killed at any step"),
    *("the high-water mark is lowered", "spares", "spares, pinned values", "spares, the writer killed at any step"),
}
SCENARIOS = [pytest.param(each, id=each.name, marks=[pytest.mark.slow] * (each.name in SLOW)) for each in standard()]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_violation(scenario: Scenario) -> None:
    outcome = explore(scenario)
    print(f"{outcome}, {outcome.longest_read} steps of a read")
    assert outcome.violation is None, str(outcome)
    assert outcome.complete


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", deep(), ids=lambda scenario: scenario.name)
def test_no_violation_in_larger_scenarios(
    scenario: Scenario, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = request.config.getoption("--explore-deep")
    if seconds is None:
        pytest.skip("needs --explore-deep SECONDS")
    outcome = explore(scenario, seconds=seconds)
    with capsys.disabled():
        print(f"\n{scenario.name}: {outcome}")
    assert outcome.violation is None, str(outcome)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_found(
    mutant: Mutant, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = mutant.scenario()
    with mutant.applied():
        outcome = explore(scenario)
    if request.config.getoption("--explore-mutants"):
        with capsys.disabled():
            print(f"\n{mutant.name}\n{scenario.name}: {outcome}")
    assert outcome.violation is not None, f"nothing found in {outcome.states} states"


def test_replaying_a_history_leads_to_the_same_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest captures the whole state: replaying the recorded history of a node leads to the same node."""
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
    scenario = make_scenario("both kinds", a_reader(reads, gets, closes=True), last=4, retains=True)
    assert Search(scenario).run(60.0).violation is None
    assert compared > 1000


def test_an_unbounded_read_is_found() -> None:
    """Invariant 2: a reader that retries until the version is stable is not wait-free."""

    def retries(port: object, reader: object) -> int:
        version = reader._attachment.version  # type: ignore[attr-defined]
        while True:
            seq: int = version.load()
            if version.load() == seq:
                return seq

    scenario = make_scenario("a reader that retries until the version is stable", a_reader(retries), last=14)
    assert "own steps" in str(explore(scenario).violation)


def test_a_blocked_process_is_found() -> None:
    def waits(port: object, reader: object) -> int:
        port.do("after", 1)  # type: ignore[attr-defined]
        return 0

    assert "is blocked" in str(
        explore(make_scenario("a reader that waits for itself", a_reader(waits), last=3)).violation
    )
