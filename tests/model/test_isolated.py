"""Isolated mode under every interleaving, and the same search in code that is known to be wrong.

pytest tests/model/test_isolated.py -rP    # print how many states each scenario has
"""

# ruff: noqa: ISC004 - the parts of a tuple are source texts
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.isolated import HeaderFirst, Register, Reusing, Search, UnlinkingFirst, gets, waits
from model.mutants import replaced
from shmsync._core import isolated
from shmsync._session import isolated_attachment

if TYPE_CHECKING:
    import types

TWO, WAITER = (gets(2), gets(2)), (waits(2),)
SCENARIOS = {
    "1 reader, 3 calls, 3 publishes, 1 death": (3, (gets(3),), 1),
    "1 waiter, 3 publishes, 1 death": (3, (waits(3),), 1),
    "2 readers, 3 publishes, 0 deaths": (3, TWO, 0),
}
SLOW = {
    "2 readers, 3 publishes, 1 death": (3, TWO, 1),
    "1 reader, 3 calls, 3 publishes, 2 deaths": (3, (gets(3),), 2),
    "1 reader, 1 waiter, 3 publishes, 1 death": (3, (gets(1), waits(2)), 1),
}
CASES = [pytest.param(*case, id=name) for name, case in SCENARIOS.items()]
CASES += [pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()]


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("publishes", "readers", "deaths"), CASES)
def test_no_violation(publishes: int, readers: tuple[object, ...], deaths: int) -> None:
    search = Search(publishes, readers, deaths)  # type: ignore[arg-type]
    violation = search.run()
    print(f"{search.states:,} states")
    assert violation is None, search.trace


MUTANTS: dict[str, tuple[types.ModuleType, str, str, bool]] = {
    "the generation word is stored after the rename": (
        isolated,
        "        self._generation.store(label.generation)  # before the rename: see above\n"
        "        self._register.publish()  # SYNC POINT publish\n",
        "        self._register.publish()\n        self._generation.store(label.generation)\n",
        False,
    ),
    "the version word is stored before the rename": (
        isolated,
        "        self._register.publish()  # SYNC POINT publish\n"
        "        self._version.store(label.seq)  # not exchanged: CLOSED is stored under the names lock, too\n",
        "        self._version.store(label.seq)\n        self._register.publish()\n",
        True,
    ),
    "sleepers are woken before the version word is stored": (
        isolated,
        "        self._version.store(label.seq)  # not exchanged: CLOSED is stored under the names lock, too\n"
        "        self._is_settled = True\n",
        "        self._wake()\n        self._version.store(label.seq)\n        self._is_settled = True\n"
        "        self._wake = lambda: None\n",
        True,
    ),
    "sleepers are not woken": (
        isolated,
        "        self._wake()  # always: a reader has no word to announce that it sleeps\n",
        "",
        True,
    ),
    "a takeover trusts the version word": (
        isolated,
        "        if named is not None and (named.seq != found or generation == CLOSED):\n",
        "        if False:\n",
        False,
    ),
    "a takeover does not wake": (
        isolated,
        "        self._wake()  # those that sleep since a writer died before it woke them\n",
        "",
        True,
    ),
    "the generation is not raised": (
        isolated,
        "        generation = self._generation.load() + 1\n",
        "        generation = self._generation.load() or 1\n",
        False,
    ),
    "the fast path compares the version word": (
        isolated_attachment,
        "newest(self._pinned, self._generation, self._open_newest)",
        "newest(self._pinned, self.version, self._open_newest)",
        False,
    ),
    "a version is cached under the loaded generation": (
        isolated_attachment,
        "        pinned.label = header.generation\n",
        "        pinned.label = self._generation.load()\n",
        False,
    ),
    "the version word is loaded after the read": (
        isolated,
        "    seen = version.load()  # before the read: a publish from here on changes the word, or has been read\n"
        "    return read_seq(), seen\n",
        "    seq = read_seq()\n    return seq, version.load()\n",
        True,
    ),
    "the version word is loaded after an open that has failed": (
        isolated_attachment,
        "            if error.errno == errno.ENOENT and before in NO_VALUE:\n",
        "            if error.errno == errno.ENOENT and self.version.load() in NO_VALUE:\n",
        False,
    ),
    "the newest sequence number is that of the cached version": (
        isolated_attachment,
        "        if pinned is not None and pinned.label == self._generation.load():\n",
        "        if pinned is not None:\n",
        True,
    ),
}
WRONG_REGISTERS = (Reusing, UnlinkingFirst, HeaderFirst)


@pytest.mark.timeout(0)
def test_updates() -> None:
    search = Search(2, TWO, 1, updates=True)
    assert search.run() is None, "\n".join(search.trace)
    print(f"{search.states:,} states")


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_found(name: str) -> None:
    module, before, after, waiting = MUTANTS[name]
    search = Search(3, WAITER if waiting else TWO, 1)
    with replaced(name, module, before, after):
        violation = search.run()
    print(violation, f"{search.states:,} states")
    assert violation is not None, f"nothing found in {search.states} states"
    assert "Error" not in violation, violation  # what the checks find, not an exception of the changed code


@pytest.mark.timeout(0)
@pytest.mark.parametrize("register", WRONG_REGISTERS)
def test_every_wrong_register_is_found(register: type[Register]) -> None:
    search = Search(3, TWO, 1, register)
    violation = search.run()
    print(violation, f"{search.states:,} states")
    assert violation is not None
    assert "Error" not in violation, violation
