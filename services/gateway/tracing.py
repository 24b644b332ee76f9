"""A span for each request, where OpenTelemetry is switched on; what the request publishes is joined to it."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.metrics import METHODS
from shared.metrics.kinds import OTHER


class TraceRequests:
    """Source of the names: OpenTelemetry, "Semantic conventions for HTTP spans"."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        house = getattr(scope["app"].state, "house", None) if scope["type"] == "http" else None
        spans: Any = house.spans if house is not None else None
        if spans is None:
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else OTHER
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {"url.path": scope["path"], "url.scheme": scope["scheme"]}
        with spans.serving(method, headers, attributes) as span:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    # The router has left it there.
                    route = getattr(scope.get("route"), "path", None)
                    if route is not None:
                        span.set_attribute("http.route", route)
                        span.update_name(f"{method} {route}")
                    if message["status"] >= 500:
                        spans.refused(span, message["status"])
                await send(message)

            await self.app(scope, receive, noted)
