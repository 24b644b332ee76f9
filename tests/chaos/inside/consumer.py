"""For the negative control of malformed messages: our consumer, with Celery's own way to take a message."""

from celery.worker.consumer.consumer import Consumer as CeleryConsumer

from shared.consumer import Consumer


class Plain(Consumer):
    """Takes messages as Celery does: acknowledges what it cannot decode, and dies of what has another shape."""

    create_task_handler = CeleryConsumer.create_task_handler
    on_decode_error = CeleryConsumer.on_decode_error
