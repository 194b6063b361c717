"""Readers that are written in C, beside those in Python: see `reader.c`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shmsync import get_include
from stress.c_mutants import MUTANTS
from stress.processes import TIMEOUT, Stoppable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stress.removals import Removals
    from stress.settings import Settings

SOURCE = Path(__file__).parent / "reader.c"
_UNAVAILABLE = "no C compiler is installed"


class CReaders:
    """The compiled program. A context manager: it is removed at the end.

    Args:
        options: further options of the compiler.
        mutant: a name in `MUTANTS`; empty: the header as it is.

    Raises:
        LookupError: there is no compiler.
        subprocess.CalledProcessError: it does not compile.
    """

    def __init__(self, options: Sequence[str] = (), mutant: str = "") -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise LookupError(_UNAVAILABLE)
        self._folder = tempfile.TemporaryDirectory(prefix="stress-")
        self.path = str(Path(self._folder.name) / "reader")
        if mutant:
            MUTANTS[mutant].write(self._folder.name)
            options = (*options, "-I", self._folder.name)
        flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", *options, "-I", get_include())
        subprocess.run([compiler, *flags, str(SOURCE), "-o", self.path], check=True)

    def close(self) -> None:
        """Remove the program."""
        self._folder.cleanup()


class CReader(Stoppable):
    """A process that runs it. It is started at once; with the interface of `ChildProcess`.

    Args:
        path: the program.
        settings: the settings of the run.
        seed: the seed of its random choices.

    Attributes:
        totals: not used.
    """

    def __init__(self, path: str, settings: Settings, seed: int) -> None:
        super().__init__()
        owner = os.geteuid() if settings.other_user is None else settings.other_user
        arguments = [settings.name, str(owner), str(max(int(settings.grace * 1000), 1)), str(seed)]
        environment = {**os.environ, "MALLOC_PERTURB_": "165"}  # freed memory is overwritten: what uses it crashes
        self._process = subprocess.Popen([path, *arguments], stdout=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._removals = settings.removals
        self._rest = b""
        self.totals: dict[str, int] = {}

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def received(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived, as those of a reader in Python."""
        assert self._process.stdout is not None
        *lines, self._rest = (self._rest + (self._process.stdout.read() or b"")).split(b"\n")
        return [judged(json.loads(line), self._removals) for line in lines if line]

    def kill(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        self._process.wait(TIMEOUT)


def judged(message: dict[str, Any], removals: Removals) -> dict[str, Any]:
    """Return a message with what it means: a violation, or what a removal from outside permits."""
    if "mismatch" in message:
        seq, number, epoch = message["mismatch"]
        return {} if removals.permit_restart(epoch) else {"violation": f"version {seq} carries number {number} (C)"}
    if "older" in message:
        older, newer = message["older"]
        if removals.permit_older(older, newer):
            return {"permitted_older": 1}
        return {"violation": f"an older version was read {newer - older} ns after a newer one (C)"}
    if "result" in message:
        if removals.permit_error(message["started"]):
            return {"removal_errors": 1}
        return {"violation": f"a read in C failed with {message['result']}"}
    return message
