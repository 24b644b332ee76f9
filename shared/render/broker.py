"""RabbitMQ's own settings, as far as the topology knows them."""

from shared.topology import CONSUMER_TIMEOUT, MAX_MESSAGE_SIZE

_CONF = """\
# Users, permissions, exchanges, queues and bindings, loaded at each start. No user means no `guest` either.
definitions.import_backend = local_filesystem
definitions.local.path = /run/definitions/definitions.json

# Milliseconds that a worker may hold a message; every task's time limit lies below.
consumer_timeout = {consumer_timeout}

# Nothing larger travels through the broker: files are passed by reference.
max_message_size = {max_message_size}

# Of the container's limit, not of the machine's memory.
vm_memory_high_watermark.relative = 0.4
disk_free_limit.absolute = 1GB
"""


def render() -> str:
    """The committed file."""
    return _CONF.format(consumer_timeout=CONSUMER_TIMEOUT * 1000, max_message_size=MAX_MESSAGE_SIZE)
