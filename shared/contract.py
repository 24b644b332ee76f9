"""The contract as data: what every task takes and gives, and what a change of it does to what is there already."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from shared.errors import ContractError
from shared.schemas import closed, takes
from shared.signatures import Declaration, declarations

Json = dict[str, Any]
#: Of the exported form: another number is another form.
FORM = 1


class Verdict(IntEnum):
    """What a change asks of whoever rolls it out; the larger, the more."""

    HARMLESS = 0
    """Publishers and workers, old and new, understand each other in any order."""
    WORKERS_FIRST = 1
    """What is published already is understood. New publishers need new workers: those are to be replaced first."""
    BREAKING = 2
    """Messages that wait, or callers that are there, are not understood any more. Give the task another name."""


@dataclass(frozen=True, order=True)
class Change:
    """One difference.

    Attributes:
        task: its name.
        what: the difference, in words.
        verdict: what it asks for.
    """

    task: str
    what: str
    verdict: Verdict


def export() -> Json:
    """Every declared task: JSON Schemas of its arguments and of its result."""
    return {"form": FORM, "tasks": {name: _task(declaration) for name, declaration in declarations().items()}}


def render() -> str:
    """The exported contract, as it is kept in a file."""
    return json.dumps(export(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read(text: str) -> Json:
    """A contract that was exported. Raises ContractError where it is none."""
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ContractError(f"this is no exported contract: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("tasks"), dict):
        raise ContractError("this is no exported contract: `celery -A shared.app contract export` makes one")
    if told.get("form") != FORM:
        raise ContractError(f"this contract has form {told.get('form')}, and only {FORM} is known: export it anew")
    return told


def compare(old: Json, new: Json) -> list[Change]:
    """What has changed between two exported contracts, by task."""
    before, after = old["tasks"], new["tasks"]
    changes = [Change(name, "the task is gone", Verdict.BREAKING) for name in before.keys() - after.keys()]
    changes += [Change(name, "the task is new", Verdict.WORKERS_FIRST) for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        changes += [Change(name, what, verdict) for what, verdict in _compare_task(before[name], after[name])]
    return sorted(changes)


def _task(declaration: Declaration[..., Any]) -> Json:
    return {
        "arguments": declaration.arguments.model_json_schema(),
        "places": list(declaration.parameters),
        "result": declaration.result.json_schema(mode="serialization"),
        "keeps_result": declaration.keeps_result,
    }


def _compare_task(old: Json, new: Json) -> Iterator[tuple[str, Verdict]]:
    before, after = old["arguments"], new["arguments"]
    known, given = before.get("properties", {}), after.get("properties", {})
    wanted = set(after.get("required", ()))
    for name in known.keys() - given.keys():
        yield f"the argument {name} is gone", Verdict.BREAKING
    for name in given.keys() - known.keys():
        if name in wanted:
            yield f"the argument {name} is new and must be given", Verdict.BREAKING
        else:
            yield f"the argument {name} is new and may be left out", Verdict.WORKERS_FIRST
    for name in known.keys() & given.keys():
        yield from _compare_argument(name, _inner(before, name), _inner(after, name))
        if name in wanted and name not in before.get("required", ()):
            yield f"the argument {name} must be given now", Verdict.BREAKING
        elif name not in wanted and name in before.get("required", ()):
            yield f"the argument {name} may be left out now", Verdict.WORKERS_FIRST
        elif known[name].get("default") != given[name].get("default"):
            yield f"the argument {name} has another default", Verdict.HARMLESS
    common = [name for name in old["places"] if name in new["places"]]
    if new["places"][: len(common)] != common or old["places"][: len(common)] != common:
        yield "the arguments have other places", Verdict.BREAKING
    yield from _compare_result(old, new)


def _compare_argument(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Verdict]]:
    if not takes(new, closed(old)):
        yield f"the argument {name} takes less, or something else", Verdict.BREAKING
    elif not takes(old, closed(new)):
        yield f"the argument {name} takes more", Verdict.WORKERS_FIRST


def _compare_result(old: Json, new: Json) -> Iterator[tuple[str, Verdict]]:
    if not takes(old["result"], closed(new["result"])):
        yield "the result may be what its readers do not know", Verdict.BREAKING
    elif not takes(new["result"], closed(old["result"])):
        yield "the result is told more narrowly", Verdict.HARMLESS
    if old["keeps_result"] and not new["keeps_result"]:
        yield "the result is not kept any more", Verdict.BREAKING
    elif new["keeps_result"] and not old["keeps_result"]:
        yield "the result is kept now", Verdict.WORKERS_FIRST


def _inner(schema: Json, name: str) -> Json:
    return {"$defs": schema.get("$defs", {}), **schema["properties"][name]}
