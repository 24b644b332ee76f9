"""What `apply_async` would have sent, as frames: with the help of Celery once for many messages, or for each.

A template is good for a twentieth of a second: a message says when it was published, and when it is due or expires. It
is used where nobody listens to what Celery says of each publish; else, and for any body but plain JSON, Celery makes
each message.
"""

import time
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

from celery import Signature, signals
from celery.events.event import Event
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps

from shared import scope
from shared.message_frames import Catcher, Caught, Marks, Template, frames, show
from shared.publishing import NotSent, PublishError, check_size

#: Seconds.
_FRESH = 0.05
#: Different options of one task, such as its delay, for which there are templates at the same time.
_KINDS = 8
_JSON = "application/json"


class Alone(Exception):
    """What cannot go with others: a canvas, or headers that do not fit into a frame."""


class Letter(NamedTuple):
    """What is remembered of a message while it is on its way.

    Attributes:
        way: exchange and routing key.
        event: that it was sent, as Flower hears of it, in JSON; None where nobody is told.
        heard: what those who listen to Celery's signal hear afterwards; None where nobody listens.
    """

    way: tuple[str, str]
    event: str | None
    heard: dict[str, Any] | None


class Writer:
    """Makes messages for one channel of a connection."""

    def __init__(self, app: Any, channel: int, frame_max: int) -> None:
        self._app, self._channel, self._most = app, channel, frame_max
        self._catcher = Catcher()
        self._until = 0.0
        self._templates: dict[str, list[tuple[dict[str, Any], _Kind]]] = {}
        self._others_listen = True
        self._tells = bool(app.conf.task_send_sent_event)

    def refresh(self, now: float) -> None:
        """Forget what is out of date by `now`, of the monotonic clock."""
        if now > self._until:
            self._templates.clear()
            self._until = now + _FRESH
            # A span names one message, and each message its span.
            self._others_listen = others_listen() or self._app.spans is not None

    def letter(self, signature: Signature, task_id: str, largest: int | None) -> tuple[bytes, Letter]:
        """The frames of a task's message, and what to remember.

        Args:
            largest: bytes of a body that the broker takes.

        Raises:
            TooLarge: its body is larger.
            NotSent: its arguments cannot be written.
            Alone: see there.
        """
        name = signature["task"]
        if signature.get("subtask_type") or name.startswith("celery."):
            raise Alone
        try:
            kind = None if self._others_listen else self._kind(signature)
            if kind is None or kind.template is None:
                return self._one(signature, task_id, largest)
            return self._like(kind, kind.template, signature, task_id, largest)
        except PublishError:
            raise
        except (EncodeError, TypeError, ValueError) as error:
            raise NotSent(f"{name}[{task_id}]: its message cannot be written: {error}: {NotSent.advice}") from error

    def _like(
        self, kind: "_Kind", template: Template, signature: Signature, task_id: str, largest: int | None
    ) -> tuple[bytes, Letter]:
        amqp, levels = self._app.amqp, kind.levels
        args, kwargs = signature["args"], signature["kwargs"]
        shown = show(args or (), amqp.argsrepr_maxsize, levels), show(kwargs or {}, amqp.kwargsrepr_maxsize, levels)
        body = template.body(args or (), kwargs or {})
        check_size(signature["task"], task_id, len(body), largest)
        content = template.frames(task_id, body, shown)
        if content is None:
            raise Alone
        event = None
        if kind.event is not None:
            root = task_id if kind.own_root else template.headers["root_id"]
            event = (
                f'{{"uuid": {quoted(task_id)}, "root_id": {quoted(root)}, "args": {quoted(shown[0])}, '
                f'"kwargs": {quoted(shown[1])}, "clock": {self._app.clock.forward()}, {kind.event}'
            )
        return content, Letter(kind.way, event, None)

    def _kind(self, signature: Signature) -> "_Kind":
        name, options = signature["task"], signature["options"]
        if "task_id" in options:
            options = {key: value for key, value in options.items() if key != "task_id"}
        kinds = self._templates.setdefault(name, [])
        for known, kind in kinds:
            if known == options:
                return kind
        made = self._new_kind(signature, options)
        if len(kinds) < _KINDS:
            kinds.append((dict(options), made))
        return made

    def _new_kind(self, signature: Signature, options: dict[str, Any]) -> "_Kind":
        marks = Marks()
        places = {"argsrepr": marks.args, "kwargsrepr": marks.kwargs}
        caught = self._catch(signature, marks.id, {key: value for key, value in places.items() if key not in options})
        properties = caught.message.properties
        template = None
        plain = properties["content_type"] == _JSON and "compression" not in properties["application_headers"]
        same = tuple(caught.body[0]) == tuple(signature["args"] or ()) and caught.body[1] == (signature["kwargs"] or {})
        if plain and same and not places.keys() & options.keys():
            try:
                template = Template(caught, marks, self._channel, self._most)
            except ValueError:
                template = None
        headers = properties["application_headers"]
        event = sent_event(self._app, caught, ("uuid", "root_id", "args", "kwargs", "clock")) if self._tells else None
        way = caught.exchange, caught.routing_key
        return _Kind(template, way, event, headers["root_id"] == marks.id, self._app.conf.task_repr_maxlevels)

    def _one(self, signature: Signature, task_id: str, largest: int | None) -> tuple[bytes, Letter]:
        caught = self._catch(signature, task_id, {})
        check_size(signature["task"], task_id, len(caught.message.body), largest)
        content = frames(
            self._channel,
            self._most,
            caught.exchange,
            caught.routing_key,
            caught.mandatory,
            caught.message._serialize_properties(),
            caught.message.body,
        )
        if content is None:
            raise Alone
        headers = caught.message.properties["application_headers"]
        heard = {
            "sender": signature["task"],
            "body": caught.body,
            "headers": headers,
            "exchange": caught.exchange,
            "routing_key": caught.routing_key,
        }
        event = None
        if self._tells:
            event = f'{{"clock": {self._app.clock.forward()}, {sent_event(self._app, caught, ("clock",))}'
        return content, Letter((caught.exchange, caught.routing_key), event, heard if self._others_listen else None)

    def _catch(self, signature: Signature, task_id: str, more: dict[str, Any]) -> Caught:
        made = signature.clone()
        made._app = self._app
        try:
            made.apply_async(task_id=task_id, producer=self._catcher, **more)
        except Caught as caught:
            return caught
        raise Alone


class _Kind(NamedTuple):
    """Messages of one task that differ by their ids and arguments alone.

    Attributes:
        template: of their frames; None where Celery has to make each.
        way: exchange and routing key.
        event: the end of their events.
        own_root: whether each is the root of what it calls.
        levels: as deep as its arguments are shown.
    """

    template: Template | None
    way: tuple[str, str]
    event: str | None
    own_root: bool
    levels: int


def tell(letter: Letter) -> None:
    """Tell those who listen to Celery's signals that a message was published."""
    if letter.heard is None:
        return
    signals.after_task_publish.send(**letter.heard)
    if signals.task_sent.receivers:
        heard, headers = letter.heard, letter.heard["headers"]
        args, kwargs, _ = heard["body"]
        told = {"task_id": headers["id"], "task": heard["sender"], "args": args, "kwargs": kwargs}
        signals.task_sent.send(sender=heard["sender"], **told, eta=headers["eta"], taskset=headers["group"])


def others_listen() -> bool:
    """Whether anybody but the scope hears of each publish."""
    before = [heard for _, heard in signals.before_task_publish.receivers if heard is not scope.carry]
    return bool(before or signals.after_task_publish.receivers or signals.task_sent.receivers)


def sent_event(app: Any, caught: Caught, without: tuple[str, ...]) -> str:
    """The event of a message, as Celery makes it, without its first brace and some fields."""
    headers = caught.message.properties["application_headers"]
    teller = app.amqp._event_dispatcher
    event = Event(
        "task-sent",
        hostname=teller.hostname,
        utcoffset=_utcoffset(),
        pid=teller.pid,
        uuid=headers["id"],
        root_id=headers["root_id"],
        parent_id=headers["parent_id"],
        name=headers["task"],
        args=headers["argsrepr"],
        kwargs=headers["kwargsrepr"],
        retries=headers["retries"],
        eta=headers["eta"],
        expires=headers["expires"],
        queue=None,
        exchange=caught.exchange,
        routing_key=caught.routing_key,
    )
    return dumps({key: value for key, value in event.items() if key not in without})[1:]


def _utcoffset() -> int:
    return (time.altzone if time.daylight and time.localtime().tm_isdst else time.timezone) // 3600
