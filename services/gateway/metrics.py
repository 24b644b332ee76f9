"""What the gateway has answered and published, on a port of its own that is published nowhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.results import Results, ResultsAway
from shared.config import Settings
from shared.metrics.declared import REQUESTS, RESULT_STORE_UP
from shared.metrics.exposition import Exposition
from shared.metrics.kinds import OTHER
from shared.status import StatusServer

#: Source: RFC 9110, section 9.3; a client may send any word.
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())
#: Seconds between two looks at the result store.
LOOK = 5.0


@asynccontextmanager
async def told(settings: Settings, results: Results) -> AsyncIterator[None]:
    """Count, and answer /metrics on `STATUS_PORT`, until the block ends; without that setting do neither."""
    if settings.status_port is None:
        yield
        return
    exposition = Exposition(forks=False)
    server = StatusServer(settings.status_host, settings.status_port, {"/metrics": exposition.answer})
    looks = asyncio.create_task(_look_at(results))
    try:
        yield
    finally:
        looks.cancel()
        server.close()
        exposition.close()


async def _look_at(results: Results) -> None:
    # With the gateway's own user, password and certificates: what it says is what its users would have.
    while True:
        try:
            await results.read("metrics")
            RESULT_STORE_UP.set(1)
        except ResultsAway:
            RESULT_STORE_UP.set(0)
        await asyncio.sleep(LOOK)


class CountRequests:
    """Counts each answer by its route, so that no path that somebody makes up is a label."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The router has left it there; what it does not know, and what stands before it, has none.
                route = getattr(scope.get("route"), "path", OTHER)
                method = scope["method"] if scope["method"] in METHODS else OTHER
                REQUESTS.inc(route, method, str(message["status"]))
            await send(message)

        await self.app(scope, receive, counted if scope["type"] == "http" else send)
