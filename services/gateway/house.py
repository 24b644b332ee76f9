"""Everything that the routes work with, made once a process."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from services.gateway.broker import Publisher
from services.gateway.catalogue import Catalogue
from services.gateway.events import Watchers
from services.gateway.looks import Looks
from services.gateway.results import Results
from services.gateway.settings import GatewaySettings
from shared.app import App, create_app
from shared.storage import Storage

#: Seconds for which an answer about readiness is as good as a new one.
FRESH = 0.5


@dataclass(frozen=True)
class House:
    """The parts."""

    settings: GatewaySettings
    results: Results
    watchers: Watchers
    publisher: Publisher
    catalogue: Catalogue
    readiness: Looks[Any]
    spans: Any = None

    @classmethod
    def build(cls, settings: GatewaySettings) -> "House":
        """All parts, none of them connected to anything yet. Raises ConfigError."""
        app = celery_app(settings)
        results = Results(app.backend)
        catalogue = Catalogue(Storage(settings.reports_location))
        return cls(settings, results, Watchers(results.read), Publisher(app), catalogue, Looks(FRESH), app.spans)

    async def close(self) -> None:
        """End what runs in the background."""
        await self.watchers.close()
        self.publisher.close()
        self.results.close()
        self.catalogue.close()
        if self.spans is not None:
            # It takes a moment where a collector is away.
            await asyncio.to_thread(self.spans.close)


def celery_app(settings: GatewaySettings) -> App:
    """A publisher's app, with waits that fit into an HTTP request."""
    app = create_app(settings=settings, publisher="gateway")
    # A second message for each task: it can fail when the task itself is already on its way.
    ours: dict[str, Any] = {"task_send_sent_event": False}
    if not settings.embedded:
        ours |= {
            "redis_socket_connect_timeout": 0.5,
            "redis_socket_timeout": 0.8,
            # Nobody reads a publisher's connection while it is idle; TCP keepalive holds it open.
            "broker_heartbeat": 0,
        }
    app.conf.update(ours)
    return app


def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


#: As a parameter's type: FastAPI hands the house in.
TheHouse = Annotated[House, Depends(_house)]
