"""What the gateway has answered and published, on a port of its own that is published nowhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.config import Settings
from shared.metrics.declared import REQUESTS
from shared.metrics.exposition import Exposition
from shared.metrics.kinds import OTHER
from shared.status import StatusServer

#: Source: RFC 9110, section 9.3; a client may send any word.
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())


@contextmanager
def told(settings: Settings) -> Iterator[None]:
    """Count, and answer /metrics on `STATUS_PORT`, until the block ends; without that setting do neither."""
    if settings.status_port is None:
        yield
        return
    exposition = Exposition(forks=False)
    server = StatusServer(settings.status_host, settings.status_port, {"/metrics": exposition.answer})
    try:
        yield
    finally:
        server.close()
        exposition.close()


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
