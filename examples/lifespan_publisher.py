"""uvicorn: one of the workers publishes what a function returns; all read it. If it dies, the next one takes over.

uvicorn --workers 4 lifespan_publisher:app
"""

import os
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shmsync import Reader
from shmsync.publisher import Publisher


def load_rates() -> dict[str, float]:  # from a database, say
    return {"publisher": os.getpid(), "at": time.time()}


publisher = Publisher("prices", load_rates, interval=0.1)
rates = Reader("prices", timeout=10)


async def show(request: Request) -> JSONResponse:
    return JSONResponse({"worker": os.getpid(), **rates.get()})


app = Starlette(routes=[Route("/", show)], lifespan=publisher.lifespan)
