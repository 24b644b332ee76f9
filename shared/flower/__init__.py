"""What Flower lacks here. Its own configuration file, which `shared/setup.py` writes, calls `prepare`."""

import sys
from collections.abc import Sequence

from pydantic import HttpUrl

from shared.config import Settings
from shared.errors import ConfigError
from shared.flower import events, guard, links, queues


class FlowerSettings(Settings):
    """Settings of Flower's pages, on top of what every process can be told.

    Attributes:
        gateway_url: where a person finds the gateway; no link without it.
        grafana_url: where a person finds Grafana; no link without it.
    """

    gateway_url: HttpUrl | None = None
    grafana_url: HttpUrl | None = None


def prepare(apis: Sequence[str], ca_file: str | None = None) -> None:
    """Add all of it, before Flower makes its application.

    Args:
        apis: of the broker's management, URLs with user and password.
        ca_file: of who signed the nodes' certificates; None for those that the machine trusts.

    Raises:
        SystemExit: a setting is wrong; the message, on standard error, names it.
    """
    try:
        settings = FlowerSettings.load()
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    queues.ask_any(apis, ca_file)
    guard.install()
    events.install()
    shown = {"Gateway": settings.gateway_url, "Grafana": settings.grafana_url}
    links.install({name: str(url) for name, url in shown.items() if url is not None})
