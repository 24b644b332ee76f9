"""What the fast lane knows of messages that somebody else acknowledges."""

import gc
import weakref
from types import SimpleNamespace

from amqp import Channel
from kombu.message import Message

from shared.fast_lane import Acknowledger


class Seen(Message):
    """One that can be looked at without being kept."""


def test_a_message_of_somebody_else_is_forgotten_when_it_is_acknowledged() -> None:
    # Given a worker in whose lane nothing comes, and messages that others have acknowledged
    acknowledger = Acknowledger(SimpleNamespace(connection_errors=()))
    channel = Channel.__new__(Channel)
    messages = [Seen("", delivery_tag=tag, channel=channel) for tag in range(1000)]
    for one in messages:
        acknowledger.other(one)
        one._state = "ACK"
    kept = weakref.WeakSet(messages)
    # When the loop has its turn, then none of them stays in memory
    acknowledger.flush()
    del messages, one
    gc.collect()
    assert not kept
