"""A worker's consumer that survives any message, on a topology that is there already."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar

from celery import signals
from celery.utils.log import get_logger
from celery.worker.consumer.consumer import Consumer as CeleryConsumer

from shared import caution, messages, redis_broker
from shared.dead_letters.burial import Burial
from shared.dead_letters.cause import Cause, Reason
from shared.event_pace import EventPace
from shared.fast_lane import Acknowledger, FastLane
from shared.health import Health
from shared.metrics.declared import DEAD_LETTERS
from shared.metrics.requests import received
from shared.stopping import hear_what_began
from shared.topology import DELIVERY_LIMIT

logger = get_logger(__name__)

#: Characters of a refused message in the log. It may be anything, and it is whole in the dead-letter queue.
LONGEST_EXCERPT = 200
#: Seconds in which an event must have left; else it is kept for later.
EVENT_TIMEOUT = 1.0


class Consumer(CeleryConsumer):
    """Celery's consumer, which rejects to the dead-letter queue what Celery's own would lose or die of.

    Celery acknowledges, and so loses, a body that it cannot decode; and valid JSON of another shape, a missing id or a
    name that cannot be hashed ends the worker, which leaves the message to end the next one.

    Whatever is given up is published to the dead-letter queue with its cause, and acknowledged when the broker has it;
    where that fails it is rejected, and the broker moves it there without a cause.

    It also leaves out the step that declares the exchanges of delayed delivery. The broker's definitions declare them
    ahead: a worker needs no right to, and a publisher never finds them missing.
    """

    class Blueprint(CeleryConsumer.Blueprint):
        """The same steps but one."""

        default_steps: ClassVar[list[str]] = [
            step for step in CeleryConsumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.health = Health()
        #: How many messages it takes at once; None where that does not change.
        self.caution: caution.Caution | None = None
        #: Called at each turn of a loop that has no hub.
        self.each_turn: Callable[[Any], None] = lambda consumer: None
        super().__init__(*args, **kwargs)
        self._event_pace = EventPace(self._flush_events)

    def on_send_event_buffered(self) -> None:
        """As Celery's, but that events leave together."""
        if self.hub:
            self._event_pace.wanted(self.hub)

    def perform_pending_operations(self) -> None:
        """As Celery's."""
        self.each_turn(self)
        super().perform_pending_operations()

    def ensure_connected(self, conn: Any) -> Any:
        """As Celery's. While it tries again and again, for as long as the broker is away, it is alive."""
        ensure = conn.ensure_connection

        def ensure_alive(*args: Any, callback: Callable[[], None], **kwargs: Any) -> Any:
            def turn() -> None:
                self.health.turn()
                callback()

            return ensure(*args, callback=turn, **kwargs)

        conn.ensure_connection = ensure_alive
        try:
            return super().ensure_connected(conn)
        finally:
            del conn.ensure_connection
            self.health.turn()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Celery's handler, behind a look at the message."""
        handle = super().create_task_handler(*args, **kwargs)
        fast = {name: one for name, one in self.strategies.items() if isinstance(one, FastLane)}
        lanes = {name: one.take for name, one in fast.items()}
        other = self.acknowledger.other
        # These are about the connection and not about the message: the consumer's own loop reconnects.
        ours = (*self.connection_errors, MemoryError)

        def on_task_received(message: Any) -> Any:
            try:
                if lanes:
                    take = lanes.get(message.headers.get("task"))
                    if take is not None and take(message):
                        return None
                    other(message)
                # All that Celery gives up passes here, in the thread that owns the channel: a failed task, a task that
                # was revoked, one that nobody knows.
                message.reject_log_error = partial(self.give_up, message)
                received(message, self.app.tasks)
                if self.over_redis and self.delivered_too_often(message):
                    return message.reject_log_error(logger, self.connection_errors)
                fault = messages.fault(message.headers, message.payload)
                if fault is None:
                    return handle(message)
            except ours:
                raise
            except Exception as error:
                # Decoding, and whatever Celery stumbles over that the look did not foresee.
                return self.refuse(message, f"it cannot be handled: {error!r:.{LONGEST_EXCERPT}}", error)
            return self.refuse(message, fault)

        if not caution.needed(self, list(fast.values())):
            return on_task_received
        care = self.caution = caution.Caution(self, on_task_received)

        def on_task_received_with_care(message: Any) -> Any:
            if message.delivery_info["redelivered"] == care.calm and care.meets(message):
                return None
            return on_task_received(message)

        return on_task_received_with_care

    def add_task_queue(self, queue: str, *args: Any, **options: Any) -> None:
        """As Celery's, of a queue of its own. An operator's word reaches every service's worker, and one that took it
        for its own would be refused by the broker, again and again, until it is restarted."""
        if queue in self.app.amqp.queues:
            super().add_task_queue(queue, *args, **options)
        else:
            logger.info("The queue %r is another service's: it is not consumed here", queue)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Give up what cannot be decoded; Celery's own acknowledges it."""
        self.refuse(message, f"its body cannot be decoded: {exc!r:.{LONGEST_EXCERPT}}", exc)

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """As Celery's, with a cause."""
        message.cause = Cause(Reason.UNKNOWN_TASK, f"this service has no task {message.headers['task']!r}")
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """As Celery's, with a cause."""
        message.cause = Cause.of(Reason.MALFORMED, exc)
        super().on_invalid_task(body, message, exc)

    def refuse(self, message: Any, fault: str, error: BaseException | None = None) -> None:
        """Give up a message of which no task can be made, and say why."""
        body = message.body if isinstance(message.body, str | bytes) else repr(message.body)
        logger.error(
            "A message on %r is refused: %s. It begins %r",
            message.delivery_info.get("routing_key"),
            fault,
            body[:LONGEST_EXCERPT],
        )
        if not message.acknowledged:
            message.cause = Cause(Reason.MALFORMED, fault)
            self.give_up(message, logger, self.connection_errors)
            signals.task_rejected.send(sender=self, message=message, exc=error)

    def give_up(self, message: Any, log: Any, errors: Any, requeue: bool = False) -> None:
        """What `Message.reject_log_error` does, but with its cause where the message has one.

        The order is what keeps it: first the broker confirms the dead letter, then the message is acknowledged. A
        worker that dies between the two leaves both, and the message is delivered again.
        """
        cause: Cause | None = getattr(message, "cause", None)
        # Without a connection the broker has taken the message back already.
        held = getattr(message.channel, "connection", None) is not None
        told = held and cause is not None and not requeue and self.burial.bury(message, cause)
        if held and not requeue:
            DEAD_LETTERS.inc(cause.reason if cause else Reason.REJECTED, "yes" if told else "no")
        if told:
            message.ack_log_error(log, errors)
        elif held and self.over_redis and not requeue:
            # Redis would drop it. Kept unacknowledged, it is delivered again after the visibility timeout.
            log.error("A message could not be made a dead letter, and is kept: %s", message.delivery_tag)
        else:
            type(message).reject_log_error(message, log, errors, requeue=requeue)

    def delivered_too_often(self, message: Any) -> bool:
        """Count a delivery, which Redis does not; whether the one before it was the last."""
        count = redis_broker.count_delivery(message)
        if count:
            message.headers["x-delivery-count"] = count
        if count > DELIVERY_LIMIT:
            message.cause = Cause(Reason.DELIVERY_LIMIT, f"it was given back {count - 1} times")
        return count > DELIVERY_LIMIT

    @cached_property
    def over_redis(self) -> bool:
        """Whether Redis is the broker."""
        return bool(self.app.settings.over_redis)

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Any:
        """As Celery's; it is there for events, which nobody may have to wait for.

        While an alarm is on, RabbitMQ confirms nothing: the first event would hold the worker up until it is over.
        """
        options = {"confirm_publish": False, "write_timeout": EVENT_TIMEOUT}
        connection = self.app.connection_for_write(url=url, heartbeat=heartbeat, transport_options=options)
        return self.ensure_connected(connection)

    @cached_property
    def acknowledger(self) -> Acknowledger:
        """Where the fast lane's messages go that are done."""
        return Acknowledger(self)

    def register_with_event_loop(self, hub: Any) -> None:
        """As Celery's; before the loop waits, the broker is told what is done."""
        super().register_with_event_loop(hub)
        hub.on_tick.add(self.acknowledger.flush)

    def stop(self) -> None:
        """As Celery's; first the broker is told what is done, and the pool is asked what it has begun."""
        self.acknowledger.flush()
        hear_what_began(self.pool, self.hub)
        super().stop()

    @cached_property
    def burial(self) -> Burial:
        """Where messages go that are given up."""
        return Burial(self.app, self.hostname)

    def shutdown(self) -> None:
        """As Celery's. The events of tasks that ended after the loop are told too."""
        self._event_pace.flush()
        super().shutdown()
        self.burial.close()
