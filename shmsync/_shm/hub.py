"""Whether gevent or eventlet has replaced the standard library's sleep, so that a thread runs many greenlets.

A system call that sleeps would stop all of them, and a thread would be a greenlet, too. Waiting then polls, with the
replaced sleep, which lets the other greenlets run. Neither package is imported here: a program that has patched the
standard library has imported it.
"""

from __future__ import annotations

import sys


def is_patched() -> bool:
    """Return whether `time.sleep` switches to another greenlet."""
    # The functions are missing while another thread imports the package.
    for module, function in (("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")):
        is_module_patched = getattr(sys.modules.get(module), function, None)
        if is_module_patched is not None and is_module_patched("time"):
            return True
    return False
