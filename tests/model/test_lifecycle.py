"""The life cycle of a name under every interleaving, and the same search in code that is known to be wrong.

pytest tests/model/test_lifecycle.py -rP    # print how many states each scenario has
"""

# ruff: noqa: ISC004 - the parts of a tuple are source texts
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.lifecycle_search import Scenario, Search
from model.mutants import replaced
from shmsync._core import isolated, lifecycle, protocol

if TYPE_CHECKING:
    import types

WRITES = "write write"
FAST = [
    Scenario((WRITES, "write", "rm"), deaths=1, failures=1),
    Scenario(("write unlink", "rm", "force"), deaths=1, failures=1),
    Scenario(("write unlink", "rm"), removals=1, deaths=1, failures=1),
    Scenario(("write unlink write",), ("read read",), deaths=1, failures=1),
    Scenario((WRITES, "rm"), ("read read",), deaths=1, failures=1),
    Scenario((WRITES, "force"), ("read read",), deaths=1),
    Scenario((WRITES,), ("read look",), removals=1, deaths=1, failures=1),
]
SLOW = [
    Scenario((f"{WRITES} close", f"{WRITES} unlink"), deaths=2, failures=1),
    Scenario((f"{WRITES} close", "write unlink"), removals=1, deaths=1),
    Scenario((WRITES, "write", "force"), deaths=1, failures=1),
    Scenario(("write unlink", "force"), removals=1, deaths=1),
    Scenario((f"{WRITES} unlink",), ("read read", "look"), deaths=1),
    Scenario(("write close", "write"), ("read read",), deaths=1, failures=1),
    Scenario(("write",), ("read look", "read look"), removals=1, deaths=1),
    Scenario(("write", "write"), ("read look",), removals=1),
    Scenario(("write unlink", "write unlink", "rm", "rm"), deaths=1),
]
DEEP = [
    Scenario((WRITES, "write unlink", "rm", "force"), ("read", "look"), deaths=1),
    Scenario(("write", "write", "rm", "force"), ("look",), removals=1, deaths=1),
    Scenario(("write", "write"), ("read look",), removals=1, isolated=True),
]
ISOLATED = [
    Scenario((WRITES, "write", "rm"), deaths=1, isolated=True),
    Scenario(("write unlink", "rm", "force"), deaths=1, isolated=True),
    Scenario(("write unlink", "rm"), removals=1, deaths=1, isolated=True),
    Scenario(("write unlink write",), ("read read",), deaths=1, failures=1, isolated=True),
    Scenario((WRITES, "force"), ("read read",), deaths=1, isolated=True),
    Scenario((WRITES,), ("read look",), removals=1, deaths=1, isolated=True),
]
SLOW_ISOLATED = [
    Scenario((WRITES, "write", "force"), deaths=1, failures=1, isolated=True),
    Scenario((f"{WRITES} close", f"{WRITES} unlink"), deaths=2, isolated=True),
    Scenario((WRITES, "rm"), ("read read",), deaths=1, failures=1, isolated=True),
    Scenario(("write close", "write"), ("read read",), deaths=1, isolated=True),
    Scenario(("write", "write"), ("look",), removals=1, isolated=True),
]
FAST += ISOLATED
SLOW += SLOW_ISOLATED
SCENARIOS = [pytest.param(scenario, id=str(scenario)) for scenario in FAST]
SCENARIOS += [pytest.param(scenario, id=str(scenario), marks=pytest.mark.slow) for scenario in SLOW]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_violation(scenario: Scenario) -> None:
    search = Search(scenario)
    violation = search.run()
    print(f"{search.states:,} states")
    assert violation is None, search.trace


@pytest.mark.timeout(0)
@pytest.mark.parametrize("scenario", DEEP, ids=str)
def test_no_violation_in_larger_scenarios(
    scenario: Scenario, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = request.config.getoption("--explore-deep")
    if seconds is None:
        pytest.skip("needs --explore-deep SECONDS")
    search = Search(scenario)
    violation = search.run(seconds)
    with capsys.disabled():
        print(f"\n{scenario}: {search.states:,} states")
    assert violation is None, search.trace


MUTANTS: dict[str, tuple[types.ModuleType, str, str, Scenario]] = {
    "the name is not compared at each write": (
        lifecycle,
        "            elif not state.is_named():",
        "            elif False:",
        Scenario(("write write write",), removals=1),
    ),
    "the reader table is not compared at each write": (
        lifecycle,
        "            elif not self._directory.can_continue(state):",
        "            elif False:",
        Scenario((WRITES,), removals=1),
    ),
    "the name is not compared before a data segment is replaced": (
        lifecycle,
        "    return state.version.load() != CLOSED and state.is_named()\n",
        "    return state.version.load() != CLOSED\n",
        Scenario((WRITES, "write"), removals=1),
    ),
    "CLOSED is not noticed before a data segment is replaced": (
        lifecycle,
        "    return state.version.load() != CLOSED and state.is_named()\n",
        "    return state.is_named()\n",
        Scenario((WRITES, "force"), deaths=1),
    ),
    "a creator cleans up without the lock": (
        lifecycle,
        "            self.state = state  # before the lock is taken: `release` finds it after an exception\n",
        "            try:\n"
        "                state.reserve()\n"
        "            except BaseException:\n"
        "                self._directory.unlink(STATE)\n"
        "                state.close()\n"
        "                raise\n"
        "            self.state = state\n",
        Scenario(("write", "write"), failures=1),
    ),
    "leftovers are not unlinked": (
        lifecycle,
        "                for leftover in (READERS, *DATA):",
        "                for leftover in ():",
        Scenario(("write",), removals=1, deaths=1),
    ),
    "close does not unlock": (
        lifecycle,
        "            state.unlock_names()\n            state.unlock_writer()\n            self.state = None\n",
        "            self.state = None\n",
        Scenario(("write close", "write")),
    ),
    "CLOSED is not set": (
        lifecycle,
        "        state.version.store(CLOSED)  # before",
        "        pass  # before",
        Scenario(("write", "force"), ("read read",)),
    ),
    "force does not take the names lock": (
        lifecycle,
        "            state.lock_names()\n            if state.is_named():\n                return _end",
        "            if state.is_named():\n                return _end",
        Scenario((WRITES, "write", "force")),
    ),
    "the version is stored, not exchanged": (
        protocol,
        "        if not self._version.compare_exchange(seq - 1, seq):\n            raise StaleIncarnationError\n",
        "        self._version.store(seq)\n",
        Scenario((WRITES, "force")),
    ),
    "CLOSED is set after the names are unlinked": (
        lifecycle,
        "    if state.is_initialized():\n"
        "        state.version.store(CLOSED)  # before the first unlink: if we die in between, no reader gets the "
        "removed value\n"
        "        state.wake_readers()\n"
        "    if is_named:\n"
        "        unlink_all(directory)\n",
        "    if is_named:\n        unlink_all(directory)\n"
        "    if state.is_initialized():\n        state.version.store(CLOSED)\n",
        Scenario(("write unlink",), ("read read",)),
    ),
    "the state segment is unlinked first": (
        lifecycle,
        "    for segment in (*DATA, READERS, STATE):",
        "    for segment in (STATE, *DATA, READERS):",
        Scenario(("write unlink", "write")),
    ),
    "the names lock is released before the state segment is unlinked": (
        lifecycle,
        "    if is_named:\n        unlink_all(directory)\n",
        "    state.unlock_names()\n    state.unlock_writer()\n    if is_named:\n        unlink_all(directory)\n",
        Scenario(("write unlink", "write")),
    ),
    "an orphan is closed before its successor has a value": (
        lifecycle,
        "        self._orphan, self.state = state, None\n",
        "        state.version.store(CLOSED)\n        self._orphan, self.state = state, None\n",
        Scenario((WRITES,), ("read read",), removals=1),
    ),
    "the names are removed without comparing the name": (
        lifecycle,
        "    if is_named:\n        unlink_all(directory)\n",
        "    unlink_all(directory)\n",
        Scenario(("write unlink", "write"), removals=1),
    ),
    "isolated: a publish does not take the names lock": (
        isolated,
        "            self._owner.replace(lambda _: self._publish(label))\n",
        "            self._publish(label)\n",
        Scenario((WRITES, "force"), isolated=True),
    ),
    "isolated: an inode is created without the names lock": (
        isolated,
        "        self._owner.replace(lambda _: self._register.create(size))\n",
        "        self._register.create(size)\n",
        Scenario((WRITES, "force"), deaths=1, isolated=True),
    ),
    "isolated: CLOSED does not end the fast path": (
        isolated,
        "            self._generation.store(CLOSED)  # first",
        "            pass  # first",
        Scenario(("write unlink",), ("read read",), isolated=True),
    ),
    "isolated: CLOSED ends the fast path too late": (
        isolated,
        "        if value == CLOSED:\n"
        "            self._generation.store(CLOSED)  # first: who sees CLOSED in the version word sees it here, too\n"
        "        self._version.store(value)\n",
        "        self._version.store(value)\n        if value == CLOSED:\n            self._generation.store(CLOSED)\n",
        Scenario(("write unlink",), ("read read",), isolated=True),
    ),
    "isolated: a writer does not recover from a remover that died after its first step": (
        isolated,
        "    is_valid = found.generation <= generation <= LAST_SEQ or generation == CLOSED\n",
        "    is_valid = found.generation <= generation <= LAST_SEQ\n",
        Scenario((WRITES, "force"), deaths=1, isolated=True),
    ),
    "isolated: a takeover trusts the version word": (
        isolated,
        "        if named is not None and (named.seq != found or generation == CLOSED):\n",
        "        if False:\n",
        Scenario((WRITES, "write"), deaths=1, isolated=True),
    ),
}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_found(name: str) -> None:
    module, before, after, scenario = MUTANTS[name]
    search = Search(scenario)
    with replaced(name, module, before, after):
        violation = search.run()
    print(violation, f"{search.states:,} states")
    assert violation is not None, f"nothing found in {search.states} states"
    assert violation[1:3] == ": ", violation  # what the checks find, not an exception of the changed code
