"""What every request and every answer goes through, before any route: plain ASGI, so that streams pass untouched."""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.problem import Problem

#: Everything that a page of ours loads comes from here. Swagger UI draws its icons from `data:`.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: Methods that change nothing. Source: RFC 9110, section 9.2.1.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Bytes of a request's body: the largest one that anybody needs has some hundred.
LARGEST_BODY = 64 * 1024


class SecureHeaders:
    """Puts our headers on every answer that does not have them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # What a route said nothing of is of this moment, and of this reader.
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, with_headers)


class ApiKeys:
    """Wants `Authorization: Bearer <key>` for all but what is open to everyone.

    Args:
        keys: any of them will do; without one, nothing is asked for.
        open_paths: whole paths, or, where they end in `/`, everything below them.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str], open_paths: Iterable[str]) -> None:
        self.app = app
        # Digests are of one length, and so their comparison tells nothing of a key's length either.
        self._digests = [sha256(key.encode()).digest() for key in keys]
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and self._digests and not self._is_open(scope["path"]):
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._knows(key.strip()):
                refusal = Problem(401, "api-key-needed", "Send a valid key: `Authorization: Bearer <key>`")
                await refusal.response({"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open or any(path.startswith(one) for one in self._open if one.endswith("/") and one != "/")

    def _knows(self, key: str) -> bool:
        digest = sha256(key.encode()).digest()
        # All are compared, so that the time says nothing of which one it was.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


class SameOrigin:
    """Refuses what another site's page could make a browser send, and a body of the wrong kind or size.

    Source: OWASP, Cross-Site Request Forgery Prevention: custom content type, Origin, Fetch Metadata.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            refusal = _refusal(Headers(scope=scope))
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
            try:
                receive = await _whole_body(receive)
            except Problem as too_large:
                await too_large.response({"Connection": "close"})(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _refusal(headers: Headers) -> Problem | None:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return Problem(415, "json-needed", "Content-Type: must be application/json")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return Problem(403, "other-origin", "Sec-Fetch-Site: another site's page may not do this")
    origin = headers.get("origin")
    # The scheme is left out: behind a proxy that ends TLS we do not know our own.
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return Problem(403, "other-origin", "Origin: another site's page may not do this")
    return None


async def _whole_body(receive: Receive) -> Receive:
    """A `receive` that gives the body in one piece. Raises Problem where it is too large."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            raise Problem(413, "body-too-large", f"body: must have at most {LARGEST_BODY} bytes")
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return whole.pop() if whole else await receive()

    return give
