"""The caller's scope: small values that follow every task made inside `with scope(...)`, without being passed by hand.

    with scope(locale="fr", scenario_id=2):
        contract.notify("ada", "report_ready").delay()   # runs with this scope, and so does all that it calls

A signature keeps the scope in which it was made; one that was made in none takes the scope in which it is published.
The scope travels in the message header `scope`. A worker restores it around the task and around what Celery publishes
for the task afterwards: callbacks, the next of a chain, the body of a chord, the next attempt.
"""

import json
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

from celery import signals

from shared.errors import InvalidArguments

#: The message header, and the option of a signature, that hold a scope.
HEADER = "scope"
#: Bytes of JSON. It rides on every message, and an AMQP frame holds all headers of one.
LARGEST = 4096
#: An AMQP table holds integers of 64 bits.
_INTEGERS = range(-(2**63), 2**63)
#: Bytes of a key: AMQP's short string.
_LONGEST_KEY = 255
_NONE = "{}"
#: Celery's built-in tasks that run a signature for each item, in its scope and service.
ITERATING = frozenset({"celery.map", "celery.starmap", "celery.chunks"})

# JSON text, because text cannot be changed behind the back of whoever else holds it.
_current: ContextVar[str] = ContextVar("scope", default=_NONE)


class InvalidScope(InvalidArguments):
    """A value that cannot travel in a message's headers. The message names it."""


@contextmanager
def scope(**values: Any) -> Iterator[None]:
    """Put `values` on top of the scope in force until the block ends; also a decorator.

    It holds for this thread, greenlet or asyncio task. A new thread begins with none, as for every context variable;
    `asyncio.to_thread`, asyncio tasks and gevent's greenlets take it along.

    Raises:
        InvalidScope: a value is not JSON, or all together are more than `LARGEST` bytes.
    """
    token = _current.set(_text({**current(), **values}))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def exactly(values: Any) -> Iterator[None]:
    """Put `values`, and nothing else, in force until the block ends. None, or what is no scope, counts as empty."""
    token = _current.set(_readable(values))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> dict[str, Any]:
    """The scope in force, empty where there is none: in a task, its caller's. The dictionary is the caller's own."""
    return json.loads(_current.get())


def in_force() -> str:
    """The same as text: equal where the scope is."""
    return _current.get()


def pin() -> dict[str, Any]:
    """What a new signature has among its options, so that it keeps the scope in force: nothing, where there is none."""
    values = current()
    return {HEADER: values} if values else {}


def of(request: Any) -> dict[str, Any]:
    """The scope with which the running task of `request` was called.

    Raises:
        InvalidScope: its message says something else than a scope.
    """
    headers = getattr(request, "headers", None)
    if not headers or HEADER not in headers:
        return {}
    return json.loads(_text(_table(headers[HEADER])))


def stamp(signature: Any, values: Mapping[str, Any]) -> Any:
    """A copy of `signature` (or its dictionary) whose parts have the scope `values`, but for those that have their own.

    Only what changes is copied: a signature belongs to whoever made it, and may be published again in another scope.
    """
    signature = dict(signature)
    options = signature["options"] = dict(signature.get("options") or {})
    for name in ("link", "link_error", "chain"):
        if options.get(name):
            options[name] = _stamp_all(options[name], values)
    if options.get("chord"):
        options["chord"] = stamp(options["chord"], values)
    kwargs = signature.get("kwargs") or {}
    kind = signature.get("subtask_type")
    if kind in ("chain", "group"):
        signature["kwargs"] = {**kwargs, "tasks": _stamp_all(kwargs["tasks"], values)}
    elif kind == "chord":
        header = kwargs["header"]
        signature["kwargs"] = {
            **kwargs,
            "header": stamp(header, values) if isinstance(header, dict) else _stamp_all(header, values),
            "body": stamp(kwargs["body"], values),
        }
    elif signature["task"] in ITERATING:
        signature["kwargs"] = {**kwargs, "task": stamp(kwargs["task"], values)}
    elif HEADER not in (options.get("headers") or {}):
        options.setdefault(HEADER, dict(values))
    return signature


def connect() -> None:
    """Have every Celery app of this process carry scopes, and restore them around tasks. A second call does nothing."""
    signals.before_task_publish.connect(carry, dispatch_uid="scope-carry", weak=False)
    signals.task_prerun.connect(_restore, dispatch_uid="scope-restore", weak=False)
    signals.task_postrun.connect(_forget, dispatch_uid="scope-forget", weak=False)


def carry(
    sender: str, body: Any, headers: MutableMapping[str, Any], properties: MutableMapping[str, Any], **_: Any
) -> None:
    """Put the scope into a message that is about to be published."""
    # Every publish of every app comes through here. What the caller wrote into the headers wins, then the scope in
    # which the signature was made, then the one in force.
    pinned = properties.pop(HEADER, None)
    if pinned is None and sender in ITERATING:
        pinned = ((body[1].get("task") or {}).get("options") or {}).get(HEADER)
    if HEADER not in headers:
        headers[HEADER] = current() if pinned is None else pinned
    carried, in_force = headers[HEADER] or {}, current()
    if not carried:
        del headers[HEADER]
    if carried != in_force and not isinstance(body, dict):
        # The worker will publish the rest of the canvas in this message's scope. What has no scope of its own there
        # belongs to the scope in force here.
        embedded = body[2]
        for name in ("callbacks", "errbacks", "chain"):
            if embedded.get(name):
                embedded[name] = _stamp_all(embedded[name], in_force)
        if embedded.get("chord"):
            embedded["chord"] = stamp(embedded["chord"], in_force)


def enter(headers: Mapping[str, Any] | None) -> Token[str]:
    """Put the scope of a message with these `headers` in force; gives what `leave` takes."""
    return _current.set(_readable(headers.get(HEADER)) if headers else _NONE)


def leave(token: Token[str]) -> None:
    """Take back what `enter` did."""
    _current.reset(token)


def _restore(task: Any, **_: Any) -> None:
    headers = task.request.headers or {}
    if not (task.request.is_eager and HEADER not in headers):
        # Kept with the request, which is one run's own: runs may be nested, and share a thread.
        task.request.scope_token = enter(headers)


def _forget(task: Any, **_: Any) -> None:
    token = task.request.__dict__.pop("scope_token", None)
    if token is not None:
        leave(token)


def _stamp_all(signatures: Any, values: Mapping[str, Any]) -> list[Any]:
    signatures = [signatures] if isinstance(signatures, dict) else signatures
    return [stamp(one, values) for one in signatures]


def _table(values: Any) -> Any:
    # Some clients' AMQP tables hold no fractions: they may write the table as JSON text.
    try:
        return json.loads(values) if isinstance(values, str) else values or {}
    except ValueError:
        return values


def _readable(values: Any) -> str:
    if not values:
        return _NONE
    try:
        return _text(_table(values))
    except InvalidScope:
        return _NONE  # the task itself says so, where it begins


def _text(values: Any) -> str:
    if not isinstance(values, Mapping):
        raise InvalidScope(f"scope: must be names with values, but is {values!r:.80}: see docs/messages.md")
    for name, value in values.items():
        try:
            _check(value, name if isinstance(name, str) else repr(name))
        except RecursionError:
            raise InvalidScope(f"scope: {name} contains itself, or is nested too deep: give plain JSON") from None
    text = json.dumps(dict(values), sort_keys=True, ensure_ascii=False)
    size = len(text.encode())
    if size > LARGEST:
        raise InvalidScope(
            f"scope: {size} bytes of JSON in {', '.join(values)}, but it rides on every message and may be {LARGEST}: "
            "pass a reference (an id, a name) and let the task look the rest up"
        )
    return text


def _check(value: Any, where: str) -> None:
    if value is None or isinstance(value, bool):
        return
    match value:
        case str():
            fits = _is_text(value)
        case int():
            fits = value in _INTEGERS
        case float():
            fits = value - value == 0  # neither infinite nor NaN
        case list():
            for index, item in enumerate(value):
                _check(item, f"{where}[{index}]")
            return
        case dict():
            for key, item in value.items():
                if not isinstance(key, str) or not _is_text(key) or len(key.encode()) > _LONGEST_KEY:
                    raise InvalidScope(f"scope: the key {key!r:.80} of {where} must be a text of {_LONGEST_KEY} bytes")
                _check(item, f"{where}.{key}")
            return
        case _:
            fits = False
    if not fits:
        raise InvalidScope(
            f"scope: {where} is {value!r:.80} ({type(value).__name__}), which JSON cannot carry: give text, a number "
            "of at most 64 bits, true or false, None, or lists and dictionaries of these"
        )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
