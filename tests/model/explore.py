"""Search every interleaving: breadth first, each state once.

A state is the shared world plus, for each process, the node of its automaton. Equal states have equal futures, so a
schedule is not followed beyond a state that another schedule has reached. The first violation found ends a shortest
failing schedule.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.process import DONE, Automaton, Bodies, Port
from model.world import (
    ENDED,
    FIRST_SLOT,
    HIGH_WATER,
    KILLED,
    NOT_STARTED,
    WORDS_PER_SLOT,
    Op,
    Violation,
    World,
    apply,
    choices,
    describe,
    end,
    first_world,
    is_enabled,
    kill,
)
from shmsync._core.layout import EVICTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Move = tuple[int, int, Any]
"""(process, thread, choice). The thread is KILL if the process is killed."""
KILL = -1

_MAX_READ_STEPS = 28  # a pin that is of no use, enter, leave, claiming a slot and releasing it; each slot adds one
_IMMEDIATE = {"header", "hold", "release", "reset"}
_CLOCK_ONLY: tuple[Op, ...] = (("clock",),)


@dataclass(frozen=True)
class Role:
    """A process of a scenario.

    Attributes:
        name: name in messages.
        spec: creates its threads; None if another process forks it.
        killable: whether it may be killed at any step.
        own_words: words that no other process changes while it runs, so loading them is not a scheduling point.
        reads: whether it is a reader, whose steps must be bounded.
    """

    name: str
    spec: Callable[[Port], Bodies] | None
    killable: bool = False
    own_words: frozenset[int] = frozenset()
    reads: bool = False


@dataclass
class Scenario:
    """What to explore.

    Attributes:
        slots: size of the reader table.
        at_end: checks a world in which all processes have ended; raises Violation.
        counted: whether evictions, replacements, resets and deaths are counted, for `at_end`.
        spares: how many replaced inodes the writers keep.
    """

    name: str
    roles: list[Role]
    slots: int
    at_end: Callable[[World], None]
    counted: bool = False
    spares: int = 0


@dataclass
class Outcome:
    """What the search found.

    Attributes:
        states: number of distinct states seen.
        schedules: schedules followed, to their end or to a state that another schedule had reached.
        complete: whether every state was explored.
        longest_read: the largest number of its own steps that a read took, from one use of a value to the next.
        violation: the violated invariant, if any.
        trace: the schedule that leads to the violation, one line per step.
    """

    states: int = 0
    schedules: int = 0
    complete: bool = False
    longest_read: int = 0
    violation: str | None = None
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        extent = "all" if self.complete else "the first"
        result = f"VIOLATION: {self.violation}" if self.violation else "no violation"
        return "\n    ".join([f"{extent} {self.states:,} states, {self.schedules:,} schedules: {result}", *self.trace])


class Search:
    """The search of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._roles = scenario.roles
        self._automata: list[Automaton] = []
        for role in self._roles:  # a forked process runs its parent's code
            self._automata.append(Automaton(role.spec) if role.spec else self._automata[-1])
        nodes = tuple(0 if role.spec else NOT_STARTED for role in self._roles)
        world = first_world(scenario.slots, nodes, counted=scenario.counted, spares=scenario.spares)
        for me, role in enumerate(self._roles):
            if role.spec:
                world = self._prepared(world, me)
        self._first = world
        self._came_from: dict[int, tuple[int, Move]] = {}

    def _prepared(self, world: World, me: int) -> World:
        """Run a process alone until each of its threads is ready."""
        for thread in range(len(self._ops(world, me))):
            while self._ops(world, me)[thread] != ("ready",):
                world = self._step(world, me, thread, None)
        for thread in range(len(self._ops(world, me))):
            world = self._step(world, me, thread, None)
        return world

    def run(self, seconds: float) -> Outcome:
        """Search until every state is explored, an invariant is violated, or the time limit is reached."""
        gc.collect()
        gc.disable()  # a finalizer must not run in the middle of another process's step
        try:
            return self._run(seconds)
        finally:
            for automaton in self._automata:
                automaton.close()
            gc.enable()

    def _run(self, seconds: float) -> Outcome:
        outcome = Outcome()
        queue = deque([self._first])
        seen = self._came_from
        seen[hash(self._first)] = (0, (0, 0, None))
        deadline = time.monotonic() + seconds
        while queue:
            world = queue.popleft()
            here = hash(world)
            move: Move | None = None
            try:
                for move in self._moves(world):
                    after = self._do(world, move)
                    there = hash(after)
                    if there in seen:
                        outcome.schedules += 1
                        continue
                    seen[there] = (here, move)
                    queue.append(after)
                move = None
                if self._is_over(world):
                    outcome.schedules += 1
                    self._scenario.at_end(world)
            except Violation as violation:
                outcome.violation = str(violation)
                outcome.trace = self._trace(here, move)
                break
            outcome.states = len(seen)
            if time.monotonic() > deadline:
                return outcome
        else:
            outcome.complete = True
            self._check_bounded(outcome)
        outcome.states = len(seen)
        return outcome

    # ---------------------------------------------------------------------------------------------------------- steps

    def _ops(self, world: World, me: int) -> tuple[Op, ...]:
        return self._automata[me].nodes[world.nodes[me]].ops

    def _moves(self, world: World) -> Iterator[Move]:
        for me, node in enumerate(world.nodes):
            if node >= 0 and self._automata[me].nodes[node].ops == _CLOCK_ONLY:
                # Reading the clock commutes with the steps of the other processes: one order is enough.
                yield from ((me, 0, choice) for choice in (False, True))
                return
        for me, node in enumerate(world.nodes):
            if node < 0:
                continue
            for thread, op in enumerate(self._automata[me].nodes[node].ops):
                if op != DONE and is_enabled(world, op):
                    for choice in choices(op):
                        yield (me, thread, choice)
            if self._roles[me].killable:
                yield (me, KILL, None)

    def _is_over(self, world: World) -> bool:
        """Return whether no process can run.

        Raises:
            Violation: a process that has not ended is blocked.
        """
        if any(move[1] != KILL for move in self._moves(world)):
            return False
        for me, node in enumerate(world.nodes):
            if node >= 0:
                raise Violation(f"{self._roles[me].name} is blocked: {self._ops(world, me)}")
        return True

    def _do(self, world: World, move: Move) -> World:
        me, thread, choice = move
        if thread == KILL:
            return kill(world, me)
        world = self._step(world, me, thread, choice)
        while world.nodes[me] >= 0 and self._is_immediate(me, op := self._ops(world, me)[thread]) and op != DONE:
            world = self._step(world, me, thread, None)
        return world

    def _is_immediate(self, me: int, op: Op) -> bool:
        return op[0] in _IMMEDIATE or (op[0] == "load" and op[1] in self._roles[me].own_words)

    def _step(self, world: World, me: int, thread: int, choice: Any) -> World:
        automaton, node = self._automata[me], world.nodes[me]
        op = automaton.nodes[node].ops[thread]
        if op[0] == "fork":
            op = (*op, automaton.after(node, thread, "child"))
        (words, locks, names, inodes, held, mapped, nodes, forked, counters), result = apply(world, me, op, choice)
        after = automaton.after(node, thread, result)
        nodes = (*nodes[:me], after, *nodes[me + 1 :])
        world = World(words, locks, names, inodes, held, mapped, nodes, forked, counters)
        return end(world, me) if automaton.nodes[after].is_done else world

    # --------------------------------------------------------------------------------------------------------- checks

    def _check_bounded(self, outcome: Outcome) -> None:
        """Invariant 2: a read takes a bounded number of its own steps, whatever the writer does."""
        for automaton, role in zip(self._automata, self._roles, strict=True):
            if role.reads and len(automaton.nodes[0].ops) == 1:
                outcome.longest_read = max(outcome.longest_read, automaton.longest(_is_own))
        if outcome.longest_read > _MAX_READ_STEPS + self._scenario.slots:
            outcome.violation = f"a read may take {outcome.longest_read} own steps"

    def _trace(self, here: int, last: Move | None) -> list[str]:
        """Describe the schedule that leads to a state, and the last move made there."""
        moves = [last] if last is not None else []
        while here != hash(self._first):
            here, move = self._came_from[here]
            moves.append(move)
        world, words = self._first, []
        for me, thread, choice in reversed(moves):
            name = self._roles[me].name
            if thread == KILL:
                words.append(f"{name} is killed")
            elif (ops := self._ops(world, me))[thread][0] not in {"start", "ready"}:
                title = f"{name}, thread {thread}" if len(ops) > 1 else name
                words.append(f"{title}: {describe(ops[thread], choice)}")
            try:
                world = self._do(world, (me, thread, choice))
            except Violation as violation:
                words.append(str(violation))
        return words


def _is_own(op: Op, result: Any) -> bool:
    """Return whether a step counts towards the bound of a read, rather than being a retry caused by another process.

    A read retries after it finds EVICTED, which the writer sets. A claim retries after it fails to raise the high-water
    mark, because another reader has raised it.
    """
    is_pin = op[0] == "load" and op[1] >= FIRST_SLOT and (op[1] - FIRST_SLOT) % WORDS_PER_SLOT == 0
    if (is_pin and result & EVICTED) or (op[:2] == ("exchange", HIGH_WATER) and not result):
        return False
    return op[0] not in {"start", "ready", "use", *_IMMEDIATE}


def check_end(world: World) -> None:
    """Check a world in which all processes have ended: no pin is leaked, and few inodes were replaced."""
    for slot, holders in enumerate(world.locks):
        pin = world.words[FIRST_SLOT + WORDS_PER_SLOT * slot]
        if holders:
            raise Violation(f"slot {slot} is still locked by {sorted(holders)}")
        # Pins of killed readers, and pins shared by a fork, stay until the writer or the next claimer clears them.
        if pin & ~EVICTED and KILLED not in world.nodes and not world.forked:
            raise Violation(f"the pin word of slot {slot} still counts {pin:#x}")
    if world.counters is not None:
        evictions, replacements, resets, deaths = world.counters
        if resets > evictions + deaths:
            raise Violation(f"{resets} resets for {evictions} evictions and {deaths} deaths")
        if replacements > 2 + 2 * evictions + 2 * deaths:  # each of the two segments is created once in any case
            raise Violation(f"{replacements} new inodes for {evictions} evictions and {deaths} deaths")


def explore(scenario: Scenario, *, seconds: float = 3600.0) -> Outcome:
    """Search a scenario. See `Search.run`."""
    return Search(scenario).run(seconds)


__all__ = ["ENDED", "Outcome", "Role", "Scenario", "check_end", "explore"]
