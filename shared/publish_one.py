"""One task after the other, each as `apply_async` would have sent it, and only now and then written by Celery.

Most of the time of a publish goes into writing a message that differs from the one before it in its id, its arguments
and its time. Who publishes a task again within a second has these filled in where Celery wrote others. Everything else
is as ever: a broker's word for each message, attempts, errors, what is counted, Flower's event.

Left to Celery: what runs inside of a task, delays, expiries, canvases, headers of the caller's own, bodies that are not
plain JSON, all transports but py-amqp's, publishers that have turned confirms off, and every publish while somebody
listens to what Celery says of each.
"""

import os
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from math import inf
from time import monotonic, time
from typing import Any, NamedTuple

from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import MessageNacked
from celery.utils import uuid

from shared import scope
from shared.event_channel import event_channel
from shared.message_frames import LONGEST_ID, Catcher, Caught, Envelope, Marks, Template, show
from shared.publish_messages import others_listen, sent_event
from shared.publishing import Line, NotSent, check_size

#: Seconds for which a template is good, because what configures Celery may change; and in which a task has to be
#: published again to be worth one.
_FRESH = 1.0
#: Different options of one task for which a thread has templates at the same time.
_KINDS = 8
#: Options that are equal in all messages of a template. Any other one leaves the message to Celery.
_SAME = frozenset(
    {
        scope.HEADER,
        "add_to_parent",
        "delivery_mode",
        "exchange",
        "exchange_type",
        "ignore_result",
        "immediate",
        "mandatory",
        "priority",
        "result_cls",
        "routing_key",
        "serializer",
        "shadow",
        "soft_time_limit",
        "task_type",
        "time_limit",
    }
)
_JSON = "application/json"


class WrittenLine(Line):
    """A line for a message that is written already.

    Args:
        frames: writes it for a channel's number and a connection's largest frame; None where it does not fit.
    """

    def __init__(self, producer: Any, care: Any, frames: Callable[[int, int], bytes | None]) -> None:
        super().__init__(producer, care)
        self._frames = frames

    def send(self, name: str, size: int) -> None:
        """Send it. Raises as `publish`.

        Args:
            name: of the message, for errors.
            size: bytes of its body.
        """
        self._insist(name, None, size, {})

    def tell(self, event: bytes, envelope: Envelope) -> None:
        """Tell Flower of it. This may be lost."""
        with self._for_eyes() as protocol:
            if (events := event_channel(protocol)) is not None:
                events.write(envelope.frames(events.channel_id, protocol.frame_max, event))

    def _hand_over(self, body: Any, options: dict[str, Any], seconds: float) -> None:
        channel = self._producer.channel
        protocol = channel.connection
        content = self._frames(channel.channel_id, protocol.frame_max)
        if content is None:
            raise NotSent("its headers do not fit into a frame")
        protocol.transport.write(content)
        # By which py-amqp knows that it needs no heartbeat.
        protocol.bytes_sent += 1
        channel.wait([spec.Basic.Ack, spec.Basic.Nack], callback=_heard, timeout=seconds)


def _heard(method: Any, *_: Any) -> None:
    if method == spec.Basic.Nack:
        raise MessageNacked


class _Kind(NamedTuple):
    """Messages of one task that differ by their ids, arguments and times alone.

    Attributes:
        event: the end of their events; None where nobody is told.
        envelope: of their events.
        ignored: whether nobody wants their results.
        levels: as deep as their arguments are shown.
    """

    template: Template
    event: str | None
    envelope: Envelope
    ignored: bool
    levels: int


@dataclass
class _Known:
    """What was published with some options.

    Attributes:
        options, scope: which.
        last: when, by the monotonic clock.
        made: when its template was written, or found to be none.
        kind: None without a template.
    """

    options: dict[str, Any]
    scope: str
    last: float
    made: float = -inf
    kind: _Kind | None = None


class Repeats:
    """Publishes what is like a task that was just published.

    Args:
        app: publishes as well, through Celery, and gives what it would have published where the producer is a Catcher.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        # A thread has its own `reply_to`, and its own place in a template's frames.
        self._own = threading.local()

    def send(self, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Publish a task; gives Celery's `AsyncResult`, or None where it is left to Celery.

        Raises:
            PublishError: its subclasses say whether the broker has the message.
        """
        task_id = options.get("task_id") or uuid()
        if type(task_id) is not str or type(args or ()) not in (list, tuple) or type(kwargs or {}) is not dict:
            return None
        if len(task_id.encode()) > LONGEST_ID:
            return None
        kind = self._kind(name, args, kwargs, options)
        if kind is None:
            return None
        app, args, kwargs = self._app, args or (), kwargs or {}
        try:
            body = kind.template.body(args, kwargs)
        except (TypeError, ValueError, RecursionError):
            return None
        amqp, now = app.amqp, datetime.now(UTC)
        shown = show(args, amqp.argsrepr_maxsize, kind.levels), show(kwargs, amqp.kwargsrepr_maxsize, kind.levels)
        published = now.isoformat(), int(now.timestamp())

        def frames(channel: int, frame_max: int) -> bytes | None:
            kind.template.go_over(channel, frame_max)
            return kind.template.frames(task_id, body, shown, published)

        with app.sending(name) as producer:
            check_size(name, task_id, len(body), app.care().largest)
            if not kind.ignored:
                app.backend.on_task_call(producer, task_id)
            line = WrittenLine(producer, app.care(), frames)
            line.send(f"{name}[{task_id}]", len(body))
            if kind.event is not None:
                event = (
                    f'{{"uuid": {quoted(task_id)}, "root_id": {quoted(task_id)}, "args": {quoted(shown[0])}, '
                    f'"kwargs": {quoted(shown[1])}, "clock": {app.clock.forward()}, "timestamp": {time()}, {kind.event}'
                )
                line.tell(event.encode(), kind.envelope)
        result = (options.get("result_cls") or app.AsyncResult)(task_id)
        result.ignored = kind.ignored
        return result

    def _kind(self, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> _Kind | None:
        if name.startswith("celery.") or others_listen() or self._app.current_worker_task is not None:
            return None
        asked = {key: value for key, value in options.items() if value is not None and key != "task_id"}
        in_force, now = scope.in_force(), monotonic()
        known = self._known(name)
        for one in known:
            if one.options == asked and one.scope == in_force:
                break
        else:
            if asked.keys() <= _SAME:
                # A signature's scope is a dictionary that its owner may change.
                kept = {key: deepcopy(value) if key == scope.HEADER else value for key, value in asked.items()}
                known.append(_Known(kept, in_force, now))
                del known[:-_KINDS]
            return None
        again, one.last = now - one.last < _FRESH, now
        if not again:
            one.made, one.kind = -inf, None
        elif now - one.made > _FRESH:
            one.made, one.kind = now, self._made(name, args, kwargs, asked)
        return one.kind

    def _known(self, name: str) -> list[_Known]:
        own, here = self._own, os.getpid()
        if getattr(own, "process", None) != here:
            # Messages and events name the process.
            own.process, own.known = here, {}
        known: list[_Known] = own.known.setdefault(name, [])
        return known

    def _made(self, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> _Kind | None:
        app, marks = self._app, Marks()
        with app.producer_or_acquire() as producer:
            connection = producer.connection
            confirms = connection.transport_options.get("confirm_publish")
            if connection.transport.driver_name != "py-amqp" or not confirms:
                return None
        shown = {"task_id": marks.id, "argsrepr": marks.args, "kwargsrepr": marks.kwargs}
        try:
            app.publish_by_celery(name, args, kwargs, {**options, **shown, "producer": Catcher()}, marks)
        except Caught as found:
            caught = found
        properties = caught.message.properties
        headers = properties["application_headers"]
        plain = properties["content_type"] == _JSON and "compression" not in headers and headers["root_id"] == marks.id
        if not plain:
            return None
        try:
            template = Template(caught, marks, 1, 0)
        except ValueError:
            return None
        told = ("uuid", "root_id", "args", "kwargs", "clock", "timestamp")
        event = sent_event(app, caught, told) if app.conf.task_send_sent_event else None
        return _Kind(template, event, self._envelope(), bool(headers["ignore_result"]), app.conf.task_repr_maxlevels)

    def _envelope(self) -> Envelope:
        teller = self._app.amqp._event_dispatcher
        said = {"content_type": _JSON, "content_encoding": "utf-8", "delivery_mode": teller.delivery_mode}
        return Envelope(teller.exchange.name, "task.sent", Message("", application_headers=teller.headers, **said))
