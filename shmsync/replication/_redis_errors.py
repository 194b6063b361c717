"""What the errors of redis-py mean, with what to do about them.

They are told apart by the names of their classes, so that this needs no redis-py, and works with any version of it.
"""

from __future__ import annotations

import re

from shmsync.errors import reason

_CONNECTING = re.compile(r"Error (?:-?\d+ )?(?:while )?connecting to (\S+)\. (.+?)\.?$", re.DOTALL)
_IN_PIPELINE = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
"""Contains the command, with the payload."""
_LONGEST = 300  # characters of a message
_EXPLAINED = {
    "AuthenticationError": "the server refuses the user or the password: {}; the user is what precedes @ in the URL, "
    "the password is in SHMSYNC_REDIS_PASSWORD or given as an argument",
    "NoPermissionError": "the server does not permit this user what is needed: {}; the documentation of replication "
    "lists what a publisher and a replica need",
    "ReadOnlyError": "the server is a replica of another one, so it accepts no versions: {}; a publisher needs the URL "
    "of the primary server, or of Sentinels",
    "OutOfMemoryError": "the server has no memory left: {}; raise its maxmemory, or publish less",
    "BusyLoadingError": "the server is still loading its data: {}",
    "MasterNotFoundError": "the Sentinels know no primary server: {}",
    "RedisClusterException": "the cluster cannot be used: {}",
    "TimeoutError": "the server does not answer: {}",
    "ConnectionError": "no connection to the server: {}",
    "InvalidResponse": "the server is not Redis or Valkey: {}; check host and port",
    "ResponseError": "the server refuses: {}",
}


def explain(error: Exception) -> str:
    """Return what an error of redis-py means, in one line."""
    text = _IN_PIPELINE.sub("", reason(error)).strip()[:_LONGEST].rstrip(".")
    found = _CONNECTING.match(text)
    if found is not None:
        return f"cannot connect to {found[1]}: {found[2]}"
    known = (_EXPLAINED.get(each.__name__) for each in type(error).__mro__)
    return next(filter(None, known), f"{type(error).__name__}: {{}}").format(text)
