"""A watcher in an app's lifespan: each worker ranks the prices once per version. uvicorn --workers 4 watcher_app:app"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette import applications, requests, responses, routing

from shmsync import Reader


@asynccontextmanager
async def lifespan(app: applications.Starlette) -> AsyncIterator[dict[str, list[str]]]:
    async def follow(prices: Reader[dict[str, float]]) -> None:
        async for snapshot in prices.watch_async():
            ranking[:] = sorted(snapshot.value, key=snapshot.value.__getitem__)

    ranking: list[str] = []
    watcher = asyncio.create_task(follow(Reader("prices")))
    yield {"ranking": ranking}
    watcher.cancel()


async def show(request: requests.Request) -> responses.JSONResponse:
    return responses.JSONResponse({"worker": os.getpid(), "ranking": request.state.ranking})


app = applications.Starlette(routes=[routing.Route("/", show)], lifespan=lifespan)
