"""An execution strategy for small idempotent tasks: decode, call, acknowledge, and nothing else.

    @implements(contract.add, app, fast_lane=True)

The plain case is run in the thread that reads the socket: a JSON message of a first attempt, delivered for the first
time, with no delay, expiry or canvas behind it, not revoked. Every other message, and every message
of a pool that cannot do it, goes to Celery's default strategy.

What is done is acknowledged in batches of up to `BATCH`, before the loop waits for anything and before the worker
stops. The broker works through acknowledgements when it can. So **a worker that is killed may run again as many tasks
as it may prefetch**, and that is why a task says itself that it may come here. A message that is delivered again takes
the default strategy, one by one.
"""

import json
import logging
from functools import partial
from struct import Struct
from time import monotonic, time
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Task as CeleryTask
from celery import signals
from celery._state import _task_stack
from celery.app import trace
from celery.app.task import Context
from celery.app.trace import IGNORED, REJECTED, TraceInfo, task_has_custom, traceback_clear
from celery.backends.base import Backend
from celery.exceptions import Ignore, Reject, Retry, WorkerLostError, WorkerShutdown, WorkerTerminate
from celery.states import FAILURE, RETRY, SUCCESS
from celery.utils.imports import symbol_by_name
from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr
from celery.worker import state
from celery.worker.request import create_request_cls
from celery.worker.strategy import default

from shared import messages, scope
from shared.metrics import declared
from shared.metrics.requests import succeeded
from shared.waits import waited

logger = get_logger(__name__)
#: Where Celery's default strategy says of each task that it has come, and how it ended.
strategy_logger = get_logger("celery.worker.strategy")
info = strategy_logger.info

_decode = json.JSONDecoder().decode

#: Messages that are acknowledged together, at most.
BATCH = 50
#: Pools whose tasks may run in the thread that reads the socket; elsewhere there is nothing to spare. They cannot end a
#: task either, so that time limits, which each message of ours has, say nothing to them.
POOLS = ("celery.concurrency.solo", "celery.concurrency.thread")

#: `basic.ack`, whole: method frame, channel, size, class and method, delivery tag, multiple, end.
_ACK = Struct(">BHIHHQBB")
_CONTENT_TYPE = "application/json"
#: With what kombu's JSON marks a date, a UUID and the like, which the lane's decoder would leave as they are written.
_MARK = b"__type__"
#: Headers that Celery's `Context` knows by name; the others are the task's `request.headers`.
_CELERYS_HEADERS = frozenset(vars(Context)) | {"lang", "task", "argsrepr", "kwargsrepr", "compression"}
#: States of a task that ends by raising one of Celery's own; every other is a failure.
_STATES = ((Reject, REJECTED), (Ignore, IGNORED), (Retry, RETRY))
#: How a task ended: with what it raised, as its result store and its listeners were told, or with a result.
Ended = tuple[ExceptionInfo | None, Any]
#: Headers whose values, and not only their kinds, decide whether a message is a plain case.
_DECISIVE = frozenset({"eta", "expires", "retries", "stamped_headers", "compression", "timelimit"})
#: Hooks of a task class that the lane does not call: a task that has one goes the default way.
_HOOKS = ("before_start", "on_success", "after_return", "__call__")


class Acknowledger:
    """Acknowledges the messages of one consumer together, and never one that is not done."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        #: Delivery tags of what is done, in the order of their delivery.
        self._done: list[int] = []
        #: Messages in the hands of the default strategy. Their tags may lie between ours.
        self._others: list[Any] = []
        self._channel: Any = None

    def done(self, message: Any) -> None:
        """A message whose task has been run."""
        if message.channel is not self._channel:
            self._begin(message.channel)
        self._done.append(message.delivery_tag)
        if len(self._done) >= BATCH:
            self.flush()

    def other(self, message: Any) -> None:
        """A message that somebody else will acknowledge."""
        if message.channel is not self._channel:
            self._begin(message.channel)
        self._others.append(message)

    def _begin(self, channel: Any) -> None:
        # Another connection: what was not acknowledged over the old one is delivered again.
        self._done, self._others, self._channel = [], [], channel

    def flush(self) -> None:
        """Tell the broker what is done."""
        if self._others:
            self._others = [message for message in self._others if not message.acknowledged]
        if not self._done:
            return
        done, self._done = self._done, []
        channel = self._channel
        if channel is None or channel.connection is None:
            return  # the broker has taken them back already
        first = min((message.delivery_tag for message in self._others), default=None)
        try:
            if first is None or first > done[-1]:
                channel.basic_ack(done[-1], multiple=True)
                return
            # Up to the first that is still in somebody's hands all at once, the others each by itself, in one write.
            together = [tag for tag in done if tag < first]
            frames = [(together[-1], 1)] if together else []
            frames += [(tag, 0) for tag in done if tag > first]
            connection = channel.connection
            connection.transport.write(
                b"".join(_ACK.pack(1, channel.channel_id, 13, 60, 80, tag, many, 0xCE) for tag, many in frames)
            )
            connection.bytes_sent += 1
        except self._consumer.connection_errors as error:
            logger.warning("%d tasks were done but not acknowledged, and will be delivered again: %r", len(done), error)


class FastLane:
    """The strategy of one task: runs the plain case at once, and has Celery's default do the rest."""

    def __init__(self, task: Any, app: Any, consumer: Any) -> None:
        self._task, self._app, self._consumer = task, app, consumer
        self._default = default(task, app, consumer)
        self._acknowledger: Acknowledger | None = getattr(consumer, "acknowledger", None)
        self._open = (
            self._acknowledger is not None
            # Acknowledged by AMQP's own frames.
            and app.settings.declared_ahead
            and consumer.hub is not None
            and type(consumer.pool).__module__ in POOLS
            and not any(task_has_custom(task, hook) not in (None, CeleryTask) for hook in _HOOKS)
            and not task.track_started
            # What is acknowledged before it runs must not run again.
            and task.acks_late
            and type(task.backend).process_cleanup is Backend.process_cleanup
        )
        self._name, self._hostname = task.name, consumer.hostname
        self._revoked = consumer.controller.state.revoked
        events = consumer.event_dispatcher
        self._says = strategy_logger.isEnabledFor(logging.INFO)
        self._counts = app.settings.status_port is not None
        self._tells = bool(events and events.enabled and task.send_events)
        self._run = task.run
        self._push = task.request_stack.push
        self._request_cls = create_request_cls(
            symbol_by_name(task.Request), task, consumer.pool, consumer.hostname, events, app=app
        )

    @property
    def open(self) -> bool:
        """Whether anything may be run here."""
        return self._open

    def __call__(self, message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        """As Celery calls a strategy."""
        return self._default(message, body, ack, reject, callbacks)

    def take(self, message: Any) -> bool:
        """Run the task of `message` if it is a plain case, and say whether it was."""
        headers, layout = message.headers, getattr(message, "layout", None)
        # Found out once of all messages whose headers have one layout.
        more = layout.notes.get(self) if layout is not None else None
        if more is None:
            if not self._open or not self._plain(headers):
                return False
            more = tuple(name for name in headers if name not in _CELERYS_HEADERS)
            if layout is not None and layout.varying.isdisjoint(_DECISIVE):
                layout.notes[self] = more
        id = headers["id"]
        if (
            message.content_type != _CONTENT_TYPE
            or message.delivery_info["redelivered"]
            or id in self._revoked
            or self._task.rate_limit
        ):
            return False
        try:
            if _MARK in message.body:
                return False
            args, kwargs, embedded = payload = _decode(message.body.decode())
        except (ValueError, TypeError, AttributeError, RecursionError):
            return False
        if embedded and (type(embedded) is not dict or any(embedded.values())):
            return False
        if messages.fault_of_body(payload) is not None:
            return False
        self._play(message, headers, id, args, kwargs, more)
        return True

    @staticmethod
    def _plain(headers: dict[str, Any]) -> bool:
        """Whether nothing in the headers asks for more than the lane does; what it reads there is in `_DECISIVE`."""
        get = headers.get
        return not (
            get("eta") is not None
            or get("expires") is not None
            or get("retries")
            or get("stamped_headers")
            or "compression" in headers
            or messages.fault_of_headers(headers) is not None
        )

    def _play(
        self,
        message: Any,
        headers: dict[str, Any],
        id: str,
        args: list[Any],
        kwargs: dict[str, Any],
        more: tuple[str, ...],
    ) -> None:
        if self._says:
            name = headers.get("shadow") or self._name
            info(trace.LOG_RECEIVED, {"id": id, "name": name})
        state.total_count[self._name] += 1
        state.all_total_count[0] += 1
        request = self._announced(message) if self._tells or signals.task_received.receivers else None
        context = self._context(message, headers, args, kwargs, more)
        if self._counts:
            wait = waited(headers, message.properties, time())
            if wait is not None:
                declared.WAIT.observe(wait, self._name)
        began = monotonic()
        try:
            failed, result = self._traced(context, id, args, kwargs)
        except (WorkerShutdown, WorkerTerminate):
            raise
        except Exception:
            # Its end could not be written down: as a process of a pool says it, which is not lost by that.
            failed = ExceptionInfo()
        except BaseException as error:
            # As for Celery's solo pool: what ends a process is a lost worker's error.
            failed = _as_lost(error)
        took = monotonic() - began
        if failed is not None:
            assert self._acknowledger is not None
            self._acknowledger.other(message)
            request = request or self._request(message)
            request.on_success((1, failed, took))
            return
        told = saferepr(result, self._task.resultrepr_maxsize) if self._says or self._tells else ""
        if self._says:
            info(trace.LOG_SUCCESS, {"id": id, "name": name, "runtime": took, "return_value": told})
        if self._counts:
            succeeded(self._name, took)
        self._acknowledger.done(message)  # type: ignore[union-attr]
        if self._tells and request is not None:
            request.send_event("task-succeeded", result=told, runtime=took)

    def _traced(self, context: Context, id: str, args: list[Any], kwargs: dict[str, Any]) -> Ended:
        # What Celery's tracer does in the plain case, and its own functions in every other.
        task = self._task
        heard = len(signals.task_prerun.receivers) > 1 or len(signals.task_postrun.receivers) > 1
        state, result = SUCCESS, None
        # What `push` gives is the thread's own list; Celery's `pop` would throw it away each time.
        tasks, requests = _task_stack.push(task), self._push(context)
        try:
            if heard:
                # Among others the scope's own.
                signals.task_prerun.send(sender=task, task_id=id, task=task, args=args, kwargs=kwargs)
            else:
                token = scope.enter(context.headers)
            began = monotonic()
            try:
                result = self._run(*args, **kwargs)
                ignored = context.ignore_result if "ignore_result" in context.__dict__ else None
                if not (task.ignore_result if ignored is None else ignored):
                    task.backend.mark_as_done(id, result, context, True)
            except Exception as error:
                result = error
                told, state = self._failed(error, context)
                return told, None
            if signals.task_success.receivers:
                signals.task_success.send(sender=task, result=result, runtime=monotonic() - began)
            return None, result
        finally:
            try:
                if heard:
                    signals.task_postrun.send(
                        sender=task,
                        task_id=id,
                        task=task,
                        args=args,
                        kwargs=kwargs,
                        retval=result,
                        state=state,
                    )
                else:
                    scope.leave(token)
            finally:
                tasks.pop()
                requests.pop()

    def _failed(self, error: Exception, context: Context) -> tuple[ExceptionInfo, str]:
        state = next((state for kind, state in _STATES if isinstance(error, kind)), FAILURE)
        info = TraceInfo(state, error)
        if state in (REJECTED, IGNORED):
            told = ExceptionInfo(internal=True)
            info.handle_reject(self._task, context)
        else:
            told = info.handle_error_state(self._task, context, call_errbacks=state == FAILURE)
        traceback_clear(error)
        return told, state

    def _context(
        self,
        message: Any,
        headers: dict[str, Any],
        args: list[Any],
        kwargs: dict[str, Any],
        more: tuple[str, ...],
    ) -> Context:
        # What Celery's constructor makes; that looks up all its own names for each task.
        context = Context.__new__(Context)
        told, properties = message.delivery_info, message.properties
        context.__dict__.update(
            headers,
            args=args,
            kwargs=kwargs,
            called_directly=False,
            hostname=self._hostname,
            properties=properties,
            correlation_id=properties.get("correlation_id"),
            reply_to=properties.get("reply_to"),
            delivery_info={
                "exchange": told["exchange"],
                "routing_key": told["routing_key"],
                "priority": properties.get("priority"),
                "redelivered": False,
            },
        )
        if "headers" not in headers:
            context.headers = {name: headers[name] for name in more} or None
        return context

    def _request(self, message: Any) -> Any:
        consumer = self._consumer
        message.reject_log_error = partial(consumer.give_up, message)
        return self._request_cls(
            message,
            on_ack=partial(consumer.call_soon_ack, message.ack_log_error),
            on_reject=partial(consumer.call_soon_ack, message.reject_log_error),
            app=self._app,
            hostname=self._hostname,
            eventer=consumer.event_dispatcher,
            task=self._task,
            connection_errors=consumer.connection_errors,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=self._app.uses_utc_timezone(),
        )

    def _announced(self, message: Any) -> Any:
        request = self._request(message)
        signals.task_received.send(sender=self._consumer, request=request)
        if self._tells:
            request.send_event(
                "task-received",
                name=request.name,
                args=request.argsrepr,
                kwargs=request.kwargsrepr,
                root_id=request.root_id,
                parent_id=request.parent_id,
                retries=0,
                eta=None,
                expires=None,
            )
            request.send_event("task-started")
        return request


def strategy(task: Any, app: Any, consumer: Any) -> FastLane:
    """For `Task.Strategy`."""
    return FastLane(task, app, consumer)


def _as_lost(error: BaseException) -> ExceptionInfo:
    try:
        raise WorkerLostError(repr(error)).with_traceback(error.__traceback__)
    except WorkerLostError:
        return ExceptionInfo()
