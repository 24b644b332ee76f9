"""The lengths of queues, from the management API of a broker that may have several nodes."""

from collections.abc import Sequence
from typing import Any

from flower.utils.broker import RabbitMQ

from shared.topology import kept_queues


def ask_any(apis: Sequence[str], ca_file: str | None = None) -> None:
    """Let Flower ask the next of these management APIs when one gives no queues; it knows one by itself.

    Flower asks for the queues that workers consume. Those that wait for an operator are shown beside them.

    Args:
        apis: URLs with user and password.
        ca_file: of who signed the nodes' certificates; None for those that the machine trusts.
    """
    ask_one, order = RabbitMQ.queues, list(apis)

    async def queues(self: Any, names: Any) -> list[dict[str, Any]]:
        wanted = list(dict.fromkeys((*names, *kept_queues())))
        for api in tuple(order):
            self.http_api = api
            # Flower logs why a node did not answer, and takes it for a broker without queues.
            if found := await ask_one(self, wanted):
                # The one that answered is asked first from now on: each that is away costs a second.
                order.sort(key=lambda each: each != api)
                return found
        return []

    RabbitMQ.queues = queues
    # Flower takes the options of another broker's client for its own.
    RabbitMQ._tls_kwargs = lambda _: {"validate_cert": True, "ca_certs": ca_file}
