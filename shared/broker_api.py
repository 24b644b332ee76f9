"""What RabbitMQ's management API tells."""

import base64
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from shared.config import Settings

#: Seconds for each answer of the API.
TIMEOUT = 5.0
#: Its ports, as RabbitMQ has them, without and with TLS.
PORT, TLS_PORT = 15672, 15671


class Api:
    """RabbitMQ's management API.

    Args:
        url: with user and password.
        ca_file: who signed its certificate; None for whom the machine trusts.
    """

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/api"

    def get(self, path: str) -> Any:
        """What is there. Raises OSError where nobody answers, or refuses, and ValueError where it is no JSON."""
        asked = Request(self._url + path, headers=self._headers)
        with urlopen(asked, timeout=TIMEOUT, context=self._context) as answer:
            return json.load(answer)


def urls(settings: Settings) -> tuple[str, ...]:
    """Where it is unless somebody says otherwise: on each host of the broker, for the same user. Never log it."""
    found = []
    for url in settings.broker_urls().split(";"):
        parts = urlsplit(url)
        user, _, host = parts.netloc.rpartition("@")
        # The broker's own port goes.
        host = host.rpartition(":")[0] if parts.port is not None else host
        scheme, port = ("https", TLS_PORT) if parts.scheme == "amqps" else ("http", PORT)
        found.append(f"{scheme}://{user}@{host}:{port}")
    return tuple(found)
