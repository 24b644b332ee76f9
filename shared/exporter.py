"""`python -m shared.exporter`: what RabbitMQ's own metrics do not tell of our queues, from its management API.

It sees everything and may change nothing: its broker user has the tag `monitoring` and no permission.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from pydantic import Field

from shared.broker_api import Api
from shared.config import Seconds, Settings, with_password
from shared.errors import ConfigError
from shared.health import Health
from shared.metrics import declared
from shared.metrics.exposition import Exposition
from shared.queue_age import QueueAge
from shared.spec import ServiceSpec
from shared.status import StatusServer
from shared.topology import (
    DELAY_BITS,
    DELAY_DELIVERY_EXCHANGE,
    SERVICES,
    delay_level,
    kept_queues,
)

_COLUMNS = "name,messages,messages_ready,messages_unacknowledged,consumers,message_stats.publish"


class ExporterSettings(Settings):
    """Settings of the exporter.

    Attributes:
        broker_api_url: RabbitMQ's management API, `http://user@host:15672`; `BROKER_PASSWORD` is that user's.
        broker_api_interval: seconds between two looks; RabbitMQ itself counts anew each 5 s.
        status_port: where /metrics is.
    """

    broker_api_url: str = Field(pattern=r"^https?://[^/@]+@[^/@]+/?$", repr=False)
    broker_api_interval: Seconds = 10.0
    status_port: int = 9100

    def _urls(self) -> tuple[str, ...]:
        return (*super()._urls(), self.broker_api_url)


class Looker:
    """Looks at the broker, and sets the gauges of `shared.metrics.declared`."""

    def __init__(self, api: Api, services: Iterable[ServiceSpec] = SERVICES) -> None:
        self._api = api
        self._services = tuple(services)
        # Control queues come and go, and are no work.
        self._kept = kept_queues(self._services)
        self._delays = frozenset(map(delay_level, range(DELAY_BITS)))
        self._ages = {name: QueueAge() for name in self._kept}
        self._published: dict[str, int] = {}

    def look(self, now: float) -> None:
        """Once. A broker that does not answer is told as such, and nothing else of it."""
        try:
            queues = {one["name"]: one for one in self._api.get(f"/queues/%2F?columns={_COLUMNS}")}
            bindings = self._api.get(f"/exchanges/%2F/{quote(DELAY_DELIVERY_EXCHANGE)}/bindings/source")
            nodes = self._api.get("/nodes?columns=name,mem_alarm,disk_free_alarm")
        except (OSError, ValueError) as error:
            print(f"the broker's API does not answer: {error}", file=sys.stderr)
            for gauge in declared.OF_THE_BROKER:
                gauge.clear()
            declared.BROKER_UP.set(0)
            return
        declared.BROKER_UP.set(1)
        self._tell_queues(queues, now)
        declared.DELAYED.set(sum(_count(queues.get(name), "messages") for name in self._delays))
        bound = {(one["destination"], one["routing_key"]) for one in bindings}
        for spec in self._services:
            keys = ("*." * DELAY_BITS + key for key in spec.binding_keys)
            declared.DELAY_BOUND.set(all((spec.name, key) in bound for key in keys), spec.name)
        for kind, field in (("memory", "mem_alarm"), ("disk", "disk_free_alarm")):
            declared.ALARM.set(any(node.get(field) for node in nodes), kind)

    def _tell_queues(self, queues: dict[str, Any], now: float) -> None:
        for name in self._kept:
            queue = queues.get(name)
            ready = _count(queue, "messages_ready")
            declared.QUEUE_READY.set(ready, name)
            declared.QUEUE_UNACKED.set(_count(queue, "messages_unacknowledged"), name)
            declared.QUEUE_CONSUMERS.set(_count(queue, "consumers"), name)
            published = _count((queue or {}).get("message_stats"), "publish")
            self._tell_published(name, published)
            messages = _count(queue, "messages")
            age = self._ages[name].look(now, ready=ready, messages=messages, published=published)
            declared.QUEUE_OLDEST.set(age, name)

    def _tell_published(self, name: str, published: int) -> None:
        before = self._published.get(name)
        # The broker counts anew after its restart, and says nothing for a while. What came before us is not counted.
        new = published - before if before is not None and published >= before else published
        declared.QUEUE_PUBLISHED.inc(name, by=0 if before is None or not published else new)
        if before is None or published:
            self._published[name] = published


def _count(found: Any, field: str) -> int:
    # Of a queue that was declared a moment ago nothing is counted yet.
    return int((found or {}).get(field) or 0)


def main() -> int:
    """Look until told to stop; gives the exit status."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        settings = ExporterSettings.load()
        health = Health(None)
        told = Exposition(forks=False)
        routes = {**health.routes(), "/metrics": told.answer}
        server = StatusServer(settings.status_host, settings.status_port, routes)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    looker = Looker(Api(with_password(settings.broker_api_url, settings.broker_password), settings.tls_ca_file))
    while not stopped.is_set():
        looker.look(time.monotonic())
        health.turn(settings.broker_api_interval)
        stopped.wait(settings.broker_api_interval)
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
