"""Whether gevent or eventlet has replaced the standard library's sleep, so that a thread runs many greenlets.

A system call that sleeps would stop all of them, and a thread would be a greenlet, too. Waiting then polls, with the
replaced sleep, which lets the other greenlets run. Neither package is imported here: a program that has patched the
standard library has imported it.
"""

from __future__ import annotations

import sys


def is_patched() -> bool:
    """Return whether `time.sleep` switches to another greenlet."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("time"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet is not None and bool(eventlet.is_monkey_patched("time"))
