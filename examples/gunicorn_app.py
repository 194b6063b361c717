"""gunicorn: pre-forked workers serve the newest settings without a restart or a signal.

gunicorn --workers 4 --preload gunicorn_app:app
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
    except ShmSyncError as error:  # some are OSErrors, which gunicorn would treat as a broken connection
        status, answer["error"] = "503 Service Unavailable", str(error)
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
