"""A worker's consumer that uses a topology that is there already."""

from typing import ClassVar

from celery.worker.consumer.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):
    """Celery's consumer without the step that declares the exchanges of delayed delivery.

    The broker's definitions declare them ahead: a worker needs no right to, and a publisher never finds them missing.
    """

    class Blueprint(CeleryConsumer.Blueprint):
        """The same steps but one."""

        default_steps: ClassVar[list[str]] = [
            step for step in CeleryConsumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]
