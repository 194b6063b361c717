"""A warning for uWSGI, which forks its workers in C without Python's at-fork hooks unless it is told otherwise."""

from __future__ import annotations

import sys

from shmsync._session.log import logger

_SAFE_OPTIONS = ("lazy-apps", "lazy", "py-call-uwsgi-fork-hooks")

_warned = False


def warn_if_it_forks_silently(name: str) -> None:
    """Warn once if a name is opened in a uWSGI master that is about to fork workers without Python's hooks."""
    global _warned  # noqa: PLW0603 - once per process
    uwsgi = sys.modules.get("uwsgi")  # only uWSGI itself provides it
    if uwsgi is None or _warned:
        return
    options = {_text(option) for option in getattr(uwsgi, "opt", ())}
    worker_id = getattr(uwsgi, "worker_id", int)
    if "master" not in options or options.intersection(_SAFE_OPTIONS) or worker_id() > 0:
        return
    _warned = True
    logger.warning(
        "%r is opened in the uWSGI master, which forks its workers without Python's fork hooks: snapshots and arrays "
        "from here are not protected in the workers. Start uWSGI with --py-call-uwsgi-fork-hooks or --lazy-apps",
        name,
    )


def _text(option: object) -> object:
    return option.decode(errors="replace") if isinstance(option, bytes) else option
