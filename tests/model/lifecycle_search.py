"""Search every interleaving of the life cycle's model, breadth first."""

from __future__ import annotations

import gc
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.lifecycle import LOOK, NEW_PROCESS, READ, STOP, VERSION, World
from model.lifecycle_isolated import IsolatedReader, IsolatedWorld, IsolatedWriter
from model.lifecycle_ports import Reader, Writer, program, reads
from model.process import Automaton
from model.world import Op, Violation
from shmsync._core.lifecycle import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDED = -1
_IDLE: Op = ("idle",)
# These follow the step before them without a scheduling point. What the others do in between they could as well do
# before that step: it took a lock, and what is looked at here is compared or changed only by the holder of the lock. Or
# the step released something, and this releases more; or it only concerns the process itself.
_AT_ONCE = {"begin", "finish read", "is named", "is ready", "close", "unlock", "unlock names", "published"}
_SUCCESS = True
_MAX_STEPS = 1000
_LOCKS = {"lock", "lock names"}

State = tuple[Any, tuple[int, ...], tuple[int, ...], int, int]
"""The frozen world; by process, its node and the reads that it has left; how many may still die; removals left."""


@dataclass(frozen=True)
class Scenario:
    """The processes of a search.

    Attributes:
        writers: the operations of each writer and remover, such as "write close".
        readers: the kinds of reads of each reader, such as "read look".
        removals: how many segments another program removes or renames.
        deaths: how many writers and removers may die.
        failures: how many allocations may fail.
        isolated: whether the name is in isolated mode.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...] = ()
    removals: int = 0
    deaths: int = 0
    failures: int = 0
    isolated: bool = False

    def __str__(self) -> str:
        outside = f" | {self.removals} removed" if self.removals else ""
        mode = "isolated: " if self.isolated else ""
        cast = " | ".join((*self.writers, *self.readers))
        return f"{mode}{cast}{outside} ({self.deaths} deaths, {self.failures} failures)"


class Search:
    """The search of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._writers = len(scenario.writers)
        self._last = len(scenario.writers) + len(scenario.readers)  # the writer that runs alone at the end
        self._kinds = [tuple(kinds.split()) for kinds in scenario.readers]
        self._isolated = scenario.isolated
        self._world = IsolatedWorld if scenario.isolated else World
        writer = IsolatedWriter if scenario.isolated else Writer
        reader = IsolatedReader if scenario.isolated else Reader
        self._automata = [Automaton(program(ops, writer)) for ops in scenario.writers]
        self._automata += [Automaton(reads(reader)) for _ in scenario.readers]
        self._next_writer = Automaton(program("write unlink", writer))
        checks = (0, 0, 0, False, 0, scenario.failures)
        world = ((-1,) * 4, (), (NEW_PROCESS,) * (self._last + 1), checks)
        left = (0,) * self._writers + tuple(len(kinds) for kinds in self._kinds)
        self._first: State = (world, (0,) * (self._last + 1), left, scenario.deaths, scenario.removals)
        self.states = 0
        self.trace: list[str] = []
        """The steps that lead to the violation."""

    def run(self, seconds: float = 3600.0) -> str | None:
        """Search until everything is explored or the time is over; return the violation, or None."""
        gc.collect()
        gc.disable()  # a finalizer must not run in the middle of another process's step
        try:
            self._run(time.monotonic() + seconds)
        except Violation as violation:
            return str(violation)
        finally:
            for automaton in (*self._automata, self._next_writer):
                automaton.close()
            gc.enable()
        return None

    def _run(self, deadline: float) -> None:
        came_from: dict[State, tuple[State, str]] = {self._first: (self._first, "")}
        waiting = deque([self._first])
        checked = set()
        while waiting and time.monotonic() < deadline:
            state = waiting.popleft()
            try:
                is_stuck = True
                for after, step, is_own in self._moves(state):
                    is_stuck &= not is_own
                    if after not in came_from:
                        came_from[after] = (state, step)
                        waiting.append(after)
                self.states = len(came_from)
                if any(node != _ENDED for node in state[1][: self._writers]):
                    self._check_progress(is_stuck=is_stuck)
                elif (key := (state[0], state[1])) not in checked:
                    checked.add(key)
                    self._check_next_writer(state)
            except Violation:
                while state != self._first:
                    state, step = came_from[state]
                    self.trace.insert(0, step)
                raise

    @staticmethod
    def _check_progress(*, is_stuck: bool) -> None:
        if is_stuck:
            raise Violation("d: a writer waits for a lock that no process releases")

    def _moves(self, state: State) -> Iterator[tuple[State, str, bool]]:  # noqa: C901
        """Yield each next state, the step, and whether a process makes it, not another program or a death."""
        frozen, nodes, left, deaths, removals = state
        for me, node in enumerate(nodes[: self._last]):
            if node == _ENDED:
                continue
            op = self._automata[me].nodes[node].ops[0]
            if op == _IDLE:
                if left[me]:
                    yield self._told(state, me), f"{me}: starts to read", True
                continue
            for chance in self._world(frozen).choices(op):
                world = self._world(frozen)
                if world.is_enabled(me, op):
                    after = self._step(world, nodes, me, op, chance)
                    yield (world.freeze(), after, left, deaths, removals), f"{me}: {op}, {chance}", True
            if deaths and me < self._writers:
                world = self._world(frozen)
                world.kill(me)
                yield (world.freeze(), _with(nodes, me, _ENDED), left, deaths - 1, removals), f"{me} dies", False
        if removals:
            for segment in range(5):
                world = self._world(frozen)
                if world.names[min(segment, STATE)] >= 0:
                    world.remove(min(segment, STATE), rename=segment > STATE)
                    yield (world.freeze(), nodes, left, deaths, removals - 1), f"{segment} is removed", False

    def _told(self, state: State, me: int) -> State:
        """Let a reader begin its next read."""
        frozen, nodes, left, deaths, removals = state
        kinds = self._kinds[me - self._writers]
        world = self._world(frozen)
        after = self._resumed(world, nodes, me, kinds[len(kinds) - left[me]])
        world.check()
        return world.freeze(), after, _with(left, me, left[me] - 1), deaths, removals

    def _step(self, world: World, nodes: tuple[int, ...], me: int, op: Op, chance: Any) -> tuple[int, ...]:
        result = world.apply(me, op, chance)
        nodes = self._resumed(world, nodes, me, result, after_lock=op[0] in _LOCKS)
        world.check()
        return nodes

    def _resumed(
        self, world: World, nodes: tuple[int, ...], me: int, result: Any, *, after_lock: bool = False
    ) -> tuple[int, ...]:
        """Resume a process with a result; go on while nothing that it does is a scheduling point."""
        automaton = self._next_writer if me == self._last else self._automata[me]
        node = automaton.after(nodes[me], 0, result)
        while self._is_at_once(world, op := automaton.nodes[node].ops[0], after_lock=after_lock):
            node = automaton.after(node, 0, world.apply(me, op, _SUCCESS))
        if not automaton.nodes[node].is_done:
            return _with(nodes, me, node)
        world.kill(me)  # its exit releases its locks
        return _with(nodes, me, _ENDED)

    def _is_at_once(self, world: World, op: Op, *, after_lock: bool) -> bool:
        if op[0] == "load":
            # In shared mode, only the holder of the write lock loads and stores a generation.
            return after_lock or not (self._isolated or op[2] == VERSION)
        return op[0] in _AT_ONCE or (op[0] == "reserve" and not world.failures)

    def _check_next_writer(self, state: State) -> None:
        """Let one more writer run alone: it heals the name, the readers find its value, and nothing is left behind."""
        frozen, nodes, *_ = state
        world = self._world(frozen)
        world.failures = 0
        readers = [me for me in range(self._writers, self._last) if nodes[me] != _ENDED]
        for me in readers:
            nodes = self._run_alone(world, nodes, me)
        nodes = self._run_alone(world, nodes, self._last, until="unlink")
        if not 0 < world.published == world.value():
            raise Violation("c: the next write does not heal the name")
        nodes = self._check_readers(world, nodes, readers, LOOK)
        nodes = self._run_alone(world, nodes, self._last)
        self._check_readers(world, nodes, readers, READ)
        if max(world.names) >= 0:
            raise Violation("d: the next writer leaves a segment behind")

    def _check_readers(self, world: World, nodes: tuple[int, ...], readers: list[int], kind: str) -> tuple[int, ...]:
        for me in readers:
            nodes = self._run_alone(world, self._resumed(world, nodes, me, kind), me)
            if world.processes[me].value != world.published:
                raise Violation("c: an attached reader does not find the next value, or still finds a removed one")
        return nodes

    def _run_alone(self, world: World, nodes: tuple[int, ...], me: int, until: str = "") -> tuple[int, ...]:
        automaton = self._next_writer if me == self._last else self._automata[me]
        for _ in range(_MAX_STEPS):
            if nodes[me] == _ENDED or (op := automaton.nodes[nodes[me]].ops[0]) == _IDLE:
                return nodes
            if not world.is_enabled(me, op):
                break
            nodes = self._step(world, nodes, me, op, _SUCCESS)
            if until and world.processes[me].op == until:
                return nodes
        raise Violation("d: the next writer is blocked")


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])


__all__ = ["STOP", "Scenario", "Search"]
