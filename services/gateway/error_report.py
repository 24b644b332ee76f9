"""What no route expected: logged with the request that met it, and answered with a problem document.

A logging handler finds the request in the record: `record.request` and `record.status_code`.
"""

import logging
from dataclasses import dataclass, field

from starlette.datastructures import URL, Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.problem import Problem

logger = logging.getLogger("services.gateway")

#: Headers that are worth reading in a report, and that hold no secret.
TOLD_HEADERS = ("host", "user-agent", "accept", "content-type", "content-length", "referer", "x-request-id")


@dataclass(frozen=True)
class RequestInfo:
    """A request, as far as a report may tell of it: no body, no cookie, no key.

    Attributes:
        method, path, query: of its first line.
        headers: those of TOLD_HEADERS that it has.
        client: its address; None where it is not known.
    """

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    client: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> "RequestInfo":
        """What an ASGI scope says."""
        headers, url = Headers(scope=scope), URL(scope=scope)
        told = {name: headers[name] for name in TOLD_HEADERS if name in headers}
        client = scope["client"][0] if scope.get("client") else None
        return cls(scope["method"], url.path, url.query, told, client)


class ErrorReport:
    """Logs what the routes did not expect, once, and answers 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            request = RequestInfo.of(scope)
            logger.exception(
                "%s %s failed", request.method, request.path, extra={"request": request, "status_code": 500}
            )
            if begun:
                raise  # the server cuts the answer short, so that nobody takes it for whole
            problem = Problem(500, "internal-error", "Something broke here; it has been reported")
            await problem.response()(scope, receive, send)
