"""uvicorn and Starlette: several workers; each request reads the newest settings.

uvicorn --workers 4 starlette_app:app
"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shmsync import Reader, ShmSyncError

settings = Reader("settings")


async def show(request: Request) -> JSONResponse:
    return JSONResponse({"worker": os.getpid(), "settings": settings.get()})  # never blocks the event loop


async def unavailable(_request: Request, error: Exception) -> JSONResponse:  # until something is published
    return JSONResponse({"worker": os.getpid(), "error": str(error)}, status_code=503)


app = Starlette(routes=[Route("/", show)], exception_handlers={ShmSyncError: unavailable})
