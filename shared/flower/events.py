"""Flower hears the workers again soon after the broker is back.

By itself it waits twice as long after each failure, without an end: after an outage of an hour, an hour more.
"""

import logging
import time
from typing import Any

from celery.events import EventReceiver
from flower.events import Events

logger = logging.getLogger(__name__)

#: Seconds between two attempts. One that the broker does not answer takes 4 s more (`broker_connection_timeout`).
AGAIN_AFTER = 2.0


def install() -> None:
    """Let Flower's thread listen so."""
    Events.run = listen


def listen(self: Any) -> None:
    """Hand on each event, for ever; a lost connection is made anew."""
    while True:
        try:
            with self.capp.connection_for_read() as connection:
                EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp).capture()
        except Exception as error:
            logger.error("no events from the broker, asking again in %g s: %s", AGAIN_AFTER, error)
            time.sleep(AGAIN_AFTER)
