"""Signal handlers that call a writer in the middle of its other calls."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from shmsync import CapacityError, ClosedError, WriteLockConflictError
from shmsync.errors import DataWriteError, StateReadError
from stress.payloads import HEADER, digest_of, random_content

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from shmsync import Writer

_CALLS = {"write": 80, "close": 15, "unlink": 5}
_DELAYS = (1e-5, 1e-3)  # seconds, the shortest and the longest
_CONTENT_LIMIT = 8192


class Interruptions:
    """The signal handlers of a process.

    Attributes:
        calls: how many calls a handler has made.
        refused: how many of these raised WriteLockConflictError.
        accepted: the calls of the last block that were not refused. `close` and `unlink` are accepted in the middle of
            another call, and take effect at its end.
        error: raised by the call of the last block because of its segments; it depends on the removals whether it may.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._writer: Writer[Any] | None = None
        self.calls = self.refused = 0
        self.accepted: set[str] = set()
        self.error: Exception | None = None
        signal.signal(signal.SIGALRM, self._handle)

    @contextmanager
    def during(self, writer: Writer[Any]) -> Iterator[None]:
        """Let a handler make one call of the writer some microseconds after the beginning of the block, or none."""
        self.accepted, self.error = set(), None
        self._writer = writer
        signal.setitimer(signal.ITIMER_REAL, self._rng.uniform(*_DELAYS))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._writer = None

    def _handle(self, *_: object) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        call = self._rng.choices(list(_CALLS), list(_CALLS.values()))[0]
        self.calls += 1
        try:
            if call == "write":
                content = random_content(self._rng, _CONTENT_LIMIT)
                writer.write_raw(HEADER.pack(0, 0, 0, digest_of(content)) + content)
            else:
                getattr(writer, call)()
            self.accepted.add(call)
        except WriteLockConflictError:
            self.refused += 1
        except ClosedError:
            pass
        except CapacityError:
            self.accepted.add(call)  # it has discarded an open reserve
        except (StateReadError, DataWriteError) as error:
            self.accepted.add(call)
            self.error = error


def check_closed(writer: Writer[Any]) -> str:
    """Return what is wrong with a writer that a handler has closed; an empty string if nothing is."""
    with suppress(ClosedError):
        writer.write_raw(b"")
        return "a writer publishes after a signal handler has closed it"
    return "" if writer.closed and writer._owner.state is None else "a signal handler's close had no effect"
