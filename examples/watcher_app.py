"""A watcher in an app's lifespan: each worker ranks the prices once per version. uvicorn --workers 4 watcher_app:app"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette import applications, requests, responses, routing

from shmsync import Reader


@asynccontextmanager
async def lifespan(app: applications.Starlette) -> AsyncIterator[None]:
    async def follow() -> None:
        async for snapshot in Reader[dict[str, float]]("prices").watch_async():
            try:
                app.state.ranking = sorted(snapshot.value, key=snapshot.value.__getitem__)
            except Exception as error:  # an invalid version: keep the ranking and wait for the next version
                print("version", snapshot.version.seq, repr(error), flush=True)

    app.state.ranking, app.state.watcher = [], asyncio.create_task(follow())
    yield  # the event loop cancels the watcher when it closes


async def show(request: requests.Request) -> responses.JSONResponse:
    return responses.JSONResponse({"worker": os.getpid(), "ranking": request.app.state.ranking})


app = applications.Starlette(routes=[routing.Route("/", show)], lifespan=lifespan)
