"""Remote control over exchanges that are there already."""

from typing import Any

from celery.app.control import Control as CeleryControl
from kombu.pidbox import Mailbox as KombuMailbox

#: Seconds that an answer may take; who asked does not wait longer than a second unless told to.
REPLY_TIMEOUT = 2.0


class Mailbox(KombuMailbox):
    """kombu's mailbox, answering without a right to declare.

    An answer goes to the reply exchange and to no other: kombu would declare, and publish to, any that a command names.
    """

    def _publish_reply(
        self,
        reply: Any,
        exchange: str,
        routing_key: str,
        ticket: str,
        channel: Any = None,
        producer: Any = None,
        **options: Any,
    ) -> None:
        channel = channel or self.connection.default_channel
        headers = {"ticket": ticket, "clock": self.clock.forward()}
        with self.producer_or_acquire(producer, channel) as acquired:
            try:
                acquired.publish(
                    reply,
                    exchange=self.reply_exchange,
                    routing_key=routing_key,
                    declare=[self.reply_exchange],
                    headers=headers,
                    # RabbitMQ closes a connection that was idle for two heartbeats: then the second attempt makes one.
                    retry=True,
                    retry_policy={"max_retries": 1, "interval_start": 0},
                    # The worker's loop waits: while an alarm is on, RabbitMQ confirms nothing.
                    timeout=REPLY_TIMEOUT,
                    confirm_timeout=REPLY_TIMEOUT,
                    **options,
                )
            except Exception:
                # A confirmation that comes late would be taken for the next message's.
                acquired.connection.collect()
                raise


class Control(CeleryControl):
    """Celery's control, through that mailbox."""

    Mailbox = Mailbox

    def __init__(self, app: Any = None) -> None:
        super().__init__(app)
        # Whatever tasks are written in: every worker and every operator reads this.
        self.mailbox.serializer = "json"
        self.mailbox.accept = ["json"]
