"""How long the first message of a queue has waited, told from counts alone.

RabbitMQ tells it of classic queues only, and to look into a quorum queue is to deliver its messages. But a queue is
first in, first out: with `ready` messages in it, the first of them came before the `ready - 1` that came last. When
that was is known from how many had come at each earlier look.
"""

from collections import deque

#: Looks that are kept of one queue: a day of them, where messages come at each.
MOST_LOOKS = 10_000


class QueueAge:
    """The looks at one queue."""

    def __init__(self) -> None:
        # When, and how many messages had come by then.
        self._looks: deque[tuple[float, int]] = deque(maxlen=MOST_LOOKS)
        self._published = 0
        self._messages = 0

    def look(self, now: float, *, ready: int, messages: int, published: int) -> float:
        """Seconds that the first message has waited, at least: it may be one look more.

        Of what was there before the first look nobody knows more than that.

        Args:
            ready: messages that nobody has taken.
            messages: those, and the ones that were taken and not acknowledged.
            published: messages that came since the broker started counting; it may begin anew.
        """
        # What the broker itself moves there it does not count.
        come = max(published - self._published if published >= self._published else published, 0)
        come = max(come, messages - self._messages) if self._looks else messages
        total = (self._looks[-1][1] if self._looks else 0) + come
        self._published, self._messages = published, messages
        if not self._looks or come:
            self._looks.append((now, total))
        if not ready:
            # Whatever comes now comes after this look.
            self._looks.clear()
            self._looks.append((now, total))
            return 0.0
        before_it = total - ready
        while len(self._looks) > 1 and self._looks[0][1] <= before_it:
            self._looks.popleft()
        return now - self._looks[0][0]
