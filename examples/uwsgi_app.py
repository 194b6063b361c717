"""uWSGI: pre-forked workers that serve the newest settings. Python's fork hooks are off by default: turn them on.

uwsgi --http :8000 --master --processes 4 --py-call-uwsgi-fork-hooks --module uwsgi_app:app
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from shmsync import Reader, ShmSyncError

settings = Reader("settings")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, answer = "200 OK", dict[str, Any](worker=os.getpid())
    try:
        with settings.read() as snapshot:
            answer.update(version=snapshot.version.seq, settings=snapshot.value)
    except ShmSyncError as error:
        status, answer["error"] = "503 Service Unavailable", str(error)
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
