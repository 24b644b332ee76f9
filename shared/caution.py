"""One at a time, where a message was delivered before: so that a task that ends its process ends no other's chance.

A worker that holds many messages and dies gives all of them back, and each counts a delivery. Who of them was to blame
is not known; but all of them come marked as delivered before, and ahead of all others. So a worker takes one message
at a time (a prefetch of one) from its start on, until one comes that nobody had. From then on it takes many, until
one comes that a worker had: it stops consuming, does what it holds, and takes one at a time again.

Source: RabbitMQ, "Quorum Queues" (redelivered first, delivery limit) and "Consumer Prefetch" (of each consumer: another
one needs another consumer).
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from celery.utils.log import get_logger
from celery.worker import state

from shared.loop import call_soon

logger = get_logger(__name__)


class Caution:
    """How many messages a consumer takes at once, over one connection.

    Args:
        consumer: the worker's; it does not consume yet.
        handle: handles a message.

    Attributes:
        calm: whether many are taken.
    """

    def __init__(self, consumer: Any, handle: Callable[[Any], Any]) -> None:
        self.calm = False
        self._consumer, self._handle = consumer, handle
        self._changing = False
        #: What others had, and came while many were taken.
        self._held: deque[Any] = deque()
        self._limit(1)

    def meets(self, message: Any) -> bool:
        """Told of a message that is not what is expected: a new one where one is taken at a time, one that was
        delivered before where many are. Gives whether it is kept here, to be handled later."""
        if not self._changing:
            self._changing = True
            call_soon(self._consumer.hub, self._be_careful if self.calm else self._be_calm)
        if self.calm:
            # Acknowledged with none of those that come after it, and are done before it.
            self._consumer.acknowledger.other(message)
            self._held.append(message)
        return self.calm

    def _be_calm(self) -> None:
        if self._begin():
            self.calm, self._changing = True, False
            self._consume(self._consumer.qos.value)

    def _be_careful(self) -> None:
        # What was on its way comes while the broker is asked for no more.
        if self._begin():
            logger.info("A message comes that was delivered before: from here on one is taken at a time")
            self._consumer.acknowledger.flush()
            self._one()

    def _one(self) -> None:
        if self._stopped():
            self._held.clear()
        elif self._held:
            # Each in its own turn of the loop: before the next one begins this one is acknowledged.
            self._handle(self._held.popleft())
            call_soon(self._consumer.hub, self._one)
        else:
            self.calm = self._changing = False
            self._consume(1)

    def _begin(self) -> bool:
        if self._stopped():
            return False
        self._consumer.task_consumer.cancel()
        return True

    def _consume(self, most: int) -> None:
        self._limit(most)
        self._consumer.task_consumer.consume()

    def _limit(self, most: int) -> None:
        self._consumer.task_consumer.channel.basic_qos(0, most, False)

    def _stopped(self) -> bool:
        # The consumer's own end cancels; and over another connection there is another one of these.
        return state.should_stop not in (None, False) or self._consumer.caution is not self


def needed(consumer: Any, lanes: list[Any]) -> bool:
    """Whether a task can take the others of its worker along: where it runs in the process that holds them."""
    return any(lane.open for lane in lanes) and consumer.initial_prefetch_count != 1
