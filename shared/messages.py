"""What a task's message must look like, so that nothing else reaches Celery.

Source: Celery's message protocol, version 2.
"""

from collections.abc import Mapping
from typing import Any

#: Characters of a task's id. Celery's own are UUIDs; the result store makes keys of them.
LONGEST_ID = 255

_NONE = type(None)
#: Headers that Celery reads without looking, and what each may be. Those that are absent are None.
_HEADERS: dict[str, tuple[type, ...]] = {
    "argsrepr": (str, _NONE),
    "kwargsrepr": (str, _NONE),
    "eta": (str, _NONE),
    "expires": (str, int, float, _NONE),
    "group": (str, _NONE),
    "group_index": (int, _NONE),
    "ignore_result": (bool, _NONE),
    "origin": (str, _NONE),
    "parent_id": (str, _NONE),
    "replaced_task_nesting": (int, _NONE),
    "retries": (int, _NONE),
    "root_id": (str, _NONE),
    "shadow": (str, _NONE),
    "stamped_headers": (list, _NONE),
    "stamps": (dict, _NONE),
    "timelimit": (list, tuple, _NONE),
}
#: What follows the arguments in a body: signatures, or lists of them.
_EMBEDDED_LISTS = ("callbacks", "errbacks", "chain")


def fault(headers: Any, payload: Any) -> str | None:
    """What is wrong with a message, in words; None where it is a task's.

    Args:
        headers: as they came.
        payload: the decoded body.
    """
    return fault_of_headers(headers) or fault_of_body(payload)


def fault_of_headers(headers: Any) -> str | None:
    """`fault`, of its headers alone; it depends on the kinds of their values, the lengths of texts, and `timelimit`."""
    if not isinstance(headers, Mapping):
        return "it has no headers"
    for name in ("task", "id"):
        value = headers.get(name)
        if type(value) is not str or not 0 < len(value) <= LONGEST_ID:
            return f"its header {name!r} must be a text of 1 to {LONGEST_ID} characters"
    for name, kinds in _HEADERS.items():
        if type(headers.get(name)) not in kinds:
            return f"its header {name!r} has a value of the wrong kind"
    limits = headers.get("timelimit")
    if limits is not None and (len(limits) != 2 or not all(type(one) in (int, float, _NONE) for one in limits)):
        return "its header 'timelimit' must be two numbers of seconds, or nothing"
    return None


def fault_of_body(payload: Any) -> str | None:
    """`fault`, of its body alone."""
    if not isinstance(payload, list | tuple) or len(payload) != 3:
        return "its body must be a list of three: arguments, keyword arguments, what follows"
    args, kwargs, embedded = payload
    if not isinstance(args, list | tuple):
        return "its arguments must be a list"
    if not isinstance(kwargs, dict):
        return "its keyword arguments must be an object"
    if not all(type(name) is str for name in kwargs):
        return "the names of its keyword arguments must be texts"
    if embedded is None:
        return None
    if not isinstance(embedded, dict):
        return "what follows its arguments must be an object"
    for name in _EMBEDDED_LISTS:
        value = embedded.get(name)
        if value is not None and not (isinstance(value, list) and all(map(_is_signature, value))):
            return f"its {name!r} must be a list of signatures"
    chord = embedded.get("chord")
    if chord is not None and not _is_signature(chord):
        return "its 'chord' must be a signature"
    return None


def _is_signature(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("task"), str)
