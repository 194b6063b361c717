"""The processes of a run, seen from the harness."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

TIMEOUT = 30.0
"""Seconds after which a process or a call is considered to hang."""


class Stoppable:
    """A process that is stopped for a while."""

    def __init__(self) -> None:
        self._stopped_until: float | None = None

    @property
    def pid(self) -> int:
        """Its process ID."""
        raise NotImplementedError

    @property
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        raise NotImplementedError

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped and not yet continued."""
        return self._stopped_until is not None

    def stop(self, seconds: float) -> None:
        """Stop it until `continue_if_due` is called after so many seconds."""
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped_until = time.monotonic() + seconds

    def continue_if_due(self, now: float) -> None:
        """Continue it if its stop is over."""
        if self._stopped_until is not None and now >= self._stopped_until:
            os.kill(self.pid, signal.SIGCONT)
            self._stopped_until = None


class ChildProcess(Stoppable):
    """A process that sends messages. It is started at once.

    Args:
        context: a context of multiprocessing.
        target: called in the process with settings, the end of the pipe that it writes to, and the other arguments.

    Attributes:
        totals: the last of the counts that it sends as totals.
    """

    def __init__(self, context: Any, target: Any, settings: Any, *args: Any) -> None:
        super().__init__()
        self._pipe, their_end = context.Pipe(duplex=False)
        self._process = context.Process(target=target, args=(settings, their_end, *args))
        self._process.start()
        their_end.close()
        self.totals: dict[str, int] = {}

    @property
    def pid(self) -> int:
        """Its process ID."""
        pid: int = self._process.pid
        return pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        status: int | None = self._process.exitcode
        return status

    def received(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived."""
        messages = []
        try:
            while self._pipe.poll():
                messages.append(json.loads(self._pipe.recv_bytes()))
        except (EOFError, OSError):
            pass
        return messages

    def kill(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        self._process.join(TIMEOUT)
        assert self.exit_status is not None, "SIGKILL did not end a process"
