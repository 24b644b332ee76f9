"""Flower beside a broker of several nodes. Flower's own configuration file calls this (`shared/setup.py`)."""

from collections.abc import Sequence
from typing import Any

from flower.utils.broker import RabbitMQ


def ask_any(apis: Sequence[str], ca_file: str | None = None) -> None:
    """Let Flower ask the next of these management APIs when one gives no queues; it knows one by itself.

    Args:
        apis: URLs with user and password.
        ca_file: of who signed the nodes' certificates; None for those that the machine trusts.
    """
    ask_one, order = RabbitMQ.queues, list(apis)

    async def queues(self: Any, names: Any) -> list[dict[str, Any]]:
        for api in tuple(order):
            self.http_api = api
            # Flower logs why a node did not answer, and takes it for a broker without queues.
            if found := await ask_one(self, names):
                # The one that answered is asked first from now on: each that is away costs a second.
                order.sort(key=lambda each: each != api)
                return found
        return []

    RabbitMQ.queues = queues
    # Flower takes the options of another broker's client for its own.
    RabbitMQ._tls_kwargs = lambda _: {"validate_cert": True, "ca_certs": ca_file}
