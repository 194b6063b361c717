"""No wake-up is lost: the shipped notifier under every interleaving of a writer and sleeping readers."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from model.process import DONE, Automaton, ModelWord, Port
from shmsync._session.notify import Notifier
from shmsync._session.ownership import Ownership
from shmsync._shm import futex

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.process import Bodies
    from shmsync._session.data import Encoded

VERSION, WAITERS = 0, 1
PUBLISHES = 3


class State(NamedTuple):
    """The shared state.

    Attributes:
        words: version and `waiters`.
        asleep: the processes that are asleep.
        woken: the processes that were woken and have not run since.
        nodes: the node of each process.
    """

    words: tuple[int, int]
    asleep: frozenset[int]
    woken: frozenset[int]
    nodes: tuple[int, ...]


class ModelFutex:
    """A futex on the version word."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def wait(self, seen: int, _: float) -> bool:
        self.port.do("sleep", seen)
        return True

    def wake(self) -> None:
        self.port.do("wake")


class WordNotifier(Notifier):
    """A notifier with the word `waiters`."""

    _waiters: ModelWord


def model_notifier(kind: type[Notifier], port: Port) -> Notifier:
    notifier = kind.__new__(kind)
    notifier.futex = ModelFutex(port)  # type: ignore[assignment]
    notifier._version = ModelWord(port, VERSION)
    notifier._waiters = ModelWord(port, WAITERS)
    return notifier


def writes(kind: type[Notifier]) -> Callable[[Port], Bodies]:
    def spec(port: Port) -> Bodies:
        notifier, publish = model_notifier(kind, port), ModelWord(port, VERSION).bind_add(1)

        def body() -> None:
            left = PUBLISHES
            while left:
                had_waiters = notifier.disarm()
                publish()
                notifier.notify(had_waiters=had_waiters)
                left -= 1

        return [body]

    return spec


def writes_at_once(kind: type[Ownership]) -> Callable[[Port], Bodies]:
    """Return the spec of a writer that tries the fast path first, which fails once."""

    def spec(port: Port) -> Bodies:
        def body() -> None:
            publish = ModelWord(port, VERSION).bind_add(1)
            owned = kind.__new__(kind)
            owned._notifier = model_notifier(Notifier, port)
            owned._load_waiters = ModelWord(port, WAITERS).load
            owned._owes_wake = False
            for number in range(PUBLISHES):
                succeeds = number > 0
                owned._publisher = SimpleNamespace(  # type: ignore[assignment]
                    try_publish=lambda *_, succeeds=succeeds: (publish(),) if succeeds else None,
                    commit=lambda *_: publish(),
                )
                if owned.try_publish((b"", 0, 0.0), 0) is None:
                    owned.commit(None, (b"", 0, 0.0))  # type: ignore[arg-type]

        return [body]

    return spec


def waits(kind: type[Notifier]) -> Callable[[Port], Bodies]:
    def spec(port: Port) -> Bodies:
        notifier, version = model_notifier(kind, port), ModelWord(port, VERSION)

        def body() -> None:
            seen = 0
            while seen < PUBLISHES:
                notifier.wait(seen, 1.0)
                seen = version.load()

        return [body]

    return spec


def search(
    kind: type[Notifier], sleepers: int, writer: Callable[[Port], Bodies] | None = None
) -> tuple[int, State | None]:
    """Return the number of states, and a state in which a process sleeps indefinitely, or None."""
    automata = [Automaton(writer or writes(kind)), *(Automaton(waits(kind)) for _ in range(sleepers))]
    first = State((0, 0), frozenset(), frozenset(), (0,) * len(automata))
    seen, queue = {first}, deque([first])
    stuck = None
    while queue and stuck is None:
        state = queue.popleft()
        after = [each for me in range(len(automata)) for each in step(automata, state, me)]
        if not after and any(not a.nodes[node].is_done for a, node in zip(automata, state.nodes, strict=True)):
            stuck = state
        new = set(after) - seen
        seen |= new
        queue.extend(new)
    for automaton in automata:
        automaton.close()
    return len(seen), stuck


def step(automata: list[Automaton], state: State, me: int) -> list[State]:
    """Return the state after the next operation of a process; an empty list if it cannot run."""
    (op,) = automata[me].nodes[state.nodes[me]].ops
    if op == DONE or me in state.asleep:
        return []
    words, asleep, woken = list(state.words), state.asleep, state.woken
    result: Any = None
    if op[0] == "sleep":
        if me not in woken and words[VERSION] == op[1]:
            return [state._replace(asleep=asleep | {me})]
        woken -= {me}
    elif op[0] == "wake":
        asleep, woken = frozenset(), woken | asleep
    elif op[0] == "load":
        result = words[op[1]]
    elif op[0] == "store":
        words[op[1]] = op[2]
    else:
        words[op[1]] += op[2]
    node = automata[me].after(state.nodes[me], 0, result)
    nodes = (*state.nodes[:me], node, *state.nodes[me + 1 :])
    return [State((words[0], words[1]), asleep, woken, nodes)]


@pytest.fixture(autouse=True)
def _with_futexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(futex, "AVAILABLE", True)


@pytest.mark.parametrize("sleepers", [1, 2])
def test_no_wakeup_is_lost(sleepers: int) -> None:
    states, stuck = search(Notifier, sleepers)
    print(f"{states:,} states")
    assert states > 100
    assert stuck is None


@pytest.mark.parametrize("sleepers", [1, 2])
def test_no_wakeup_is_lost_by_a_write_at_once(sleepers: int) -> None:
    states, stuck = search(Notifier, sleepers, writes_at_once(Ownership))
    assert states > 100
    assert stuck is None


class ForgetsWhomItOwes(Ownership):
    """Clears `waiters`, and leaves the publish to the slow path, which finds the word cleared."""

    def try_publish(self, value: Encoded, size: int) -> tuple[int, int, int, int] | None:
        published = super().try_publish(value, size)
        self._owes_wake = False
        return published


class DoesNotLookAgain(Ownership):
    def try_publish(self, value: Encoded, size: int) -> tuple[int, int, int, int] | None:
        return None if self._load_waiters() else self._publisher.try_publish(value, size)


@pytest.mark.parametrize("kind", [ForgetsWhomItOwes, DoesNotLookAgain])
def test_every_broken_write_at_once_is_found(kind: type[Ownership]) -> None:
    assert any(search(Notifier, sleepers, writes_at_once(kind))[1] for sleepers in (1, 2))


class ClearsAfterwards(WordNotifier):
    """Clears `waiters` after the publish, and with it the announcement of a reader that has seen that publish."""

    def disarm(self) -> bool:
        return False

    def notify(self, *, had_waiters: bool) -> None:
        assert not had_waiters
        if self._waiters.load():
            self._waiters.store(0)
            self.futex.wake()


class IgnoresClearedWaiters(WordNotifier):
    def disarm(self) -> bool:
        super().disarm()
        return False


class ChecksOnlyBefore(WordNotifier):
    def notify(self, *, had_waiters: bool) -> None:
        if had_waiters:
            self.futex.wake()


class AnnouncesTooLate(WordNotifier):
    def arm(self, seen: int) -> bool:
        same = self._version.load() == seen
        self._waiters.store(1)
        return same

    def wait(self, seen: int, timeout: float) -> None:
        if self.arm(seen):
            self.futex.port.do("sleep", self._version.load())  # type: ignore[attr-defined]


class NeverClears(WordNotifier):
    """Correct, but every write after the first wait makes a system call."""

    def disarm(self) -> bool:
        return self._waiters.load() != 0


@pytest.mark.parametrize("kind", [ClearsAfterwards, IgnoresClearedWaiters, ChecksOnlyBefore, AnnouncesTooLate])
def test_every_broken_notifier_is_found(kind: type[Notifier]) -> None:
    assert any(search(kind, sleepers)[1] for sleepers in (1, 2))


def test_a_slow_but_correct_notifier_passes() -> None:
    assert search(NeverClears, 2)[1] is None
