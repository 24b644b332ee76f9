"""A worker's consumer that uses a topology that is there already."""

from celery.worker.consumer.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer without the step that declares the exchanges of delayed delivery.

    The broker's definitions declare them ahead, so a worker needs no right to, and a publisher never finds them missing.
    """

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc]  # Celery has no types
        """The same steps but one."""

        default_steps = [
            step
            for step in CeleryConsumer.Blueprint.default_steps
            if not step.endswith(":DelayedDelivery")
        ]
