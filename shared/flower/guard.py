"""Nobody without credentials sees anything of Flower but whether it runs.

Flower asks for them handler by handler, and leaves some out: its metrics name every task and worker. Here they are
asked for before a handler is chosen, so a route that a newer Flower brings is closed too.
"""

import hmac
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from flower.app import Flower
from tornado.web import HTTPError, RequestHandler

#: Open to everybody: what asks is the engine, which knows no password.
HEALTH = "/healthcheck"


class Refusal(RequestHandler):
    """Says 401 to whatever was asked, by whichever method."""

    def check_xsrf_cookie(self) -> None:
        """As the other; it would answer before, and differently."""

    def prepare(self) -> None:
        """As the other."""
        raise HTTPError(401)

    def write_error(self, status_code: int, **_: Any) -> None:
        """As the other."""
        self.set_header("WWW-Authenticate", 'Basic realm="flower", charset="UTF-8"')
        self.finish("Access denied\n")


def allowed(header: str, credentials: Iterable[str]) -> bool:
    """Whether an `Authorization` header holds one of these `user:password`. Without any, nobody is let in."""
    scheme, _, encoded = header.partition(" ")
    try:
        given = b64decode(encoded, validate=True) if scheme.lower() == "basic" else None
    except ValueError:
        given = None
    # All are compared, so that the time says nothing; as bytes, because text beyond ASCII cannot be.
    found = [hmac.compare_digest(one.encode(), given) for one in credentials if given is not None]
    return any(found)


def install() -> None:
    """Put the question before every route."""
    choose = Flower.find_handler

    def find_handler(self: Any, request: Any, **kwargs: Any) -> Any:
        header = request.headers.get("Authorization", "")
        if request.path == HEALTH or allowed(header, self.options.basic_auth or ()):
            return choose(self, request, **kwargs)
        return self.get_handler_delegate(request, Refusal)

    Flower.find_handler = find_handler
