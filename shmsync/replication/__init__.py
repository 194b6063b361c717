"""The same Reader on every host, through Redis or Valkey.

One publisher, anywhere; a server in between that is there already, the *engine*; and on each host a replica, which
publishes what arrives into the shared memory of that host. Readers do not change:

    publisher = Publisher("prices", "redis://engine:6379")        # on one host; or `shmsync publish prices --to URL`
    replica = Replica("prices", "redis://engine:6379").start()    # on each other host; or `shmsync replica`
    reader = Reader("prices")                                     # on all of them

A version travels as what has changed since the version before it, where that is known: see `Writer.update`. Of versions
that follow each other faster than they can be sent or received, some are skipped; the newest always arrives.

URLs: `redis://HOST:PORT/DATABASE`; `rediss://` for TLS, with `?ssl_ca_certs=FILE`; `redis+sentinel://HOST:PORT,.../
SERVICE`; `redis+cluster://HOST:PORT`; user names as in `redis://USER@HOST`. The password is an argument, or in the
environment variable SHMSYNC_REDIS_PASSWORD. Needs the extra `redis`.

Source of the stream's ids and of what Redis refuses: the documentation of its command XADD.
"""

from shmsync._types import Origin
from shmsync.replication.engine import Engine
from shmsync.replication.publisher import Publisher
from shmsync.replication.relay import Relay, RelayStatus
from shmsync.replication.replica import Replica, ReplicaStatus

__all__ = ["Engine", "Origin", "Publisher", "Relay", "RelayStatus", "Replica", "ReplicaStatus"]
