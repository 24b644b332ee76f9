"""A worker's consumer that survives any message, on a topology that is there already."""

from collections.abc import Callable
from typing import Any, ClassVar

from celery import signals
from celery.utils.log import get_logger
from celery.worker.consumer.consumer import Consumer as CeleryConsumer

from shared import messages

logger = get_logger(__name__)

#: Characters of a refused message in the log. It may be anything, and it is whole in the dead-letter queue.
LONGEST_EXCERPT = 200


class Consumer(CeleryConsumer):
    """Celery's consumer, which rejects to the dead-letter queue what Celery's own would lose or die of.

    Celery acknowledges, and so loses, a body that it cannot decode; and valid JSON of another shape, a missing id or a
    name that cannot be hashed ends the worker, which leaves the message to end the next one.

    It also leaves out the step that declares the exchanges of delayed delivery. The broker's definitions declare them
    ahead: a worker needs no right to, and a publisher never finds them missing.
    """

    class Blueprint(CeleryConsumer.Blueprint):
        """The same steps but one."""

        default_steps: ClassVar[list[str]] = [
            step for step in CeleryConsumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Celery's handler, behind a look at the message."""
        handle = super().create_task_handler(*args, **kwargs)
        # These are about the connection and not about the message: the consumer's own loop reconnects.
        ours = (*self.connection_errors, MemoryError)

        def on_task_received(message: Any) -> Any:
            try:
                fault = messages.fault(message.headers, message.payload)
                if fault is None:
                    return handle(message)
            except ours:
                raise
            except Exception as error:
                # Decoding, and whatever Celery stumbles over that the look did not foresee.
                return self.refuse(message, f"it cannot be handled: {error!r:.{LONGEST_EXCERPT}}", error)
            return self.refuse(message, fault)

        return on_task_received

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Reject what cannot be decoded; Celery's own acknowledges it."""
        self.refuse(message, f"its body cannot be decoded: {exc!r:.{LONGEST_EXCERPT}}", exc)

    def refuse(self, message: Any, fault: str, error: BaseException | None = None) -> None:
        """Reject a message to the dead-letter queue, and say why."""
        body = message.body if isinstance(message.body, str | bytes) else repr(message.body)
        logger.error(
            "A message on %r is refused: %s. It begins %r",
            message.delivery_info.get("routing_key"),
            fault,
            body[:LONGEST_EXCERPT],
        )
        if not message.acknowledged:
            message.reject_log_error(logger, self.connection_errors)
            signals.task_rejected.send(sender=self, message=message, exc=error)
