"""gunicorn: pre-forked workers that serve the newest settings, with no restart and no signal.

gunicorn --workers 4 --preload gunicorn_app:app
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from shmsync import Reader

settings = Reader("settings", timeout=10)  # a worker that is there before the publisher waits for it


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with settings.read() as snapshot:
        answer = {"worker": os.getpid(), "version": snapshot.version.seq, "settings": snapshot.value}
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
