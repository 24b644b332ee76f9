"""The tree of a canvas, joined from what is known of it."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.dead_letters.cause import Reason
from shared.dead_letters.letter import DeadLetter
from shared.trace.sources import RECEIVED, Known, Line, children

#: A task of which only others tell: its message waits, or it keeps no result and writes no log that can be read here.
UNKNOWN = "UNKNOWN"
#: The name of what stands above the parts of a group that nothing came before. It is no task, and has no state.
GROUP = "group"
_STARTED = re.compile(r"started(?: after (\d+\.\d+) s)?")
_ENDED = (
    (re.compile(r"succeeded in (\d+\.\d+) s"), "SUCCESS"),
    (re.compile(r"retried: (.*)"), "RETRY"),
    (re.compile(r"failed: (.*)"), "FAILURE"),
    (re.compile(r"(revoked|expired|terminated)"), "REVOKED"),
)


@dataclass
class Node:
    """A task of the canvas.

    Attributes:
        id: of the call.
        task: its name; names, with ` > ` between, where one took the other's place (`replace`).
        state: Celery's, of the latest attempt; UNKNOWN where nothing tells.
        queue, worker: where it was taken; empty where nobody noted it.
        wait: seconds that the message of the latest attempt waited for a free process; None where nobody noted it.
        run: seconds that the latest attempt ran; None likewise.
        attempts: how often it was begun.
        parent: id of the task that called it, or of the group that the canvas is; None of the first one.
        group: id of its group, where it is a part of one.
        error: of what it failed, or is tried again, in one line.
        dead_letter: what the dead-letter queue holds of it.
        log: what it wrote.
        children: what it called.
    """

    id: str
    task: str = ""
    state: str = UNKNOWN
    queue: str = ""
    worker: str = ""
    wait: float | None = None
    run: float | None = None
    attempts: int = 0
    parent: str | None = None
    group: str | None = None
    error: str = ""
    dead_letter: dict[str, Any] | None = None
    log: list[Line] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        value = {**vars(self), "children": [child.as_dict() for child in self.children]}
        value["log"] = [
            {"time": line.time, "level": line.level, "attempt": line.attempt, "text": line.text} for line in self.log
        ]
        return value


def build(anchor: str, known: Known) -> Node:
    """The tree of the canvas that is known by `anchor`."""
    nodes: dict[str, Node] = {}
    lines: dict[str, list[Line]] = defaultdict(list)
    for line in known.lines:
        lines[line.id].append(line)
    for letter in known.letters:
        nodes[letter.id] = Node(letter.id)
    for one in (*lines, *known.results):
        nodes.setdefault(one, Node(one))
    for node in nodes.values():
        # What is known later says more: the log of every attempt, the store's last word, why it was given up.
        _by_log(node, lines[node.id])
        if node.id in known.results:
            _by_result(node, known.results[node.id])
    for letter in known.letters:
        _by_letter(nodes[letter.id], letter)
    _called(nodes, known.results)
    return _joined(anchor, nodes)


def _by_log(node: Node, lines: Iterable[Line]) -> None:
    names: list[str] = []
    begun, started = 0, None
    for line in lines:
        if line.task not in names:
            names.append(line.task)
        node.attempts = max(node.attempts, line.attempt)
        if match := RECEIVED.fullmatch(line.text):
            node.queue, node.worker = match[1], match[2]
            # A task that takes another's place has its id, and was called by one that it called.
            node.parent = node.parent or _named(match[3])
            node.group = node.group or _named(match[4])
            node.state = "RECEIVED"
        elif match := _STARTED.fullmatch(line.text):
            begun, started = begun + 1, line.time
            node.wait = float(match[1]) if match[1] else None
            node.state, node.run = "STARTED", None
        else:
            _by_end(node, line, started)
            continue
    node.task = " > ".join(names)
    node.attempts = max(node.attempts, begun if len(names) == 1 else 0)


def _by_end(node: Node, line: Line, started: str | None) -> None:
    for pattern, state in _ENDED:
        if match := pattern.fullmatch(line.text):
            node.state, node.error = state, match[1] if state in ("RETRY", "FAILURE") else ""
            if state == "SUCCESS":
                node.run = float(match[1])
            elif started:
                node.run = _seconds(started, line.time)
            return
    node.log.append(line)


def _by_result(node: Node, meta: dict[str, Any]) -> None:
    node.state = meta["status"]
    node.task = node.task or str(meta.get("name") or "")
    node.queue = node.queue or str(meta.get("queue") or "")
    node.worker = node.worker or str(meta.get("worker") or "")
    node.parent = node.parent or meta.get("parent_id")
    node.group = node.group or meta.get("group_id")
    node.wait = meta.get("waited", node.wait)
    node.run = meta.get("ran", node.run)
    if meta.get("retries") is not None:
        node.attempts = max(node.attempts, meta["retries"] + 1)
    result = meta.get("result")
    if isinstance(result, dict) and "exc_type" in result:
        said = result.get("exc_message")
        text = said[0] if isinstance(said, list) and said else said
        node.error = f"{result['exc_type']}: {text or ''}".removesuffix(": ")


def _by_letter(node: Node, letter: DeadLetter) -> None:
    node.state = "REVOKED" if letter.reason in (Reason.REVOKED, Reason.EXPIRED) else "FAILURE"
    node.task = node.task or letter.task
    node.worker = node.worker or letter.host
    node.attempts = max(node.attempts, letter.attempts)
    node.error = letter.exception.partition("\n")[0] or node.error
    node.parent = node.parent or _text(letter.headers.get("parent_id"))
    node.group = node.group or _text(letter.headers.get("group"))
    fields = ("key", "queue", "reason", "exception", "traceback", "attempts", "last")
    node.dead_letter = {name: getattr(letter, name) for name in fields}


def _called(nodes: dict[str, Node], results: dict[str, dict[str, Any]]) -> None:
    """Tasks of which only their caller's result tells."""
    for caller, meta in results.items():
        for child in children(meta):
            if child not in nodes:
                nodes[child] = Node(child, parent=caller)


def _joined(anchor: str, nodes: dict[str, Node]) -> Node:
    if anchor not in nodes and any(node.group == anchor for node in nodes.values()):
        nodes[anchor] = Node(anchor, GROUP, state="")
    top = nodes.setdefault(anchor, Node(anchor))
    top.parent = None
    for node in list(nodes.values()):
        if node.parent and node.parent not in nodes:
            # It keeps no result, and its log is not here.
            nodes[node.parent] = Node(node.parent, parent=anchor)
    for node in nodes.values():
        if node is top:
            continue
        above = nodes.get(node.parent or anchor, top)
        # What took the place of a task may name one that this task has called as its caller.
        if _is_below(above, node, nodes):
            above = top
        node.parent = above.id
        above.children.append(node)
    return top


def _is_below(node: Node, other: Node, nodes: dict[str, Node]) -> bool:
    seen = set()
    above: Node | None = node
    while above is not None and above.id not in seen:
        if above is other:
            return True
        seen.add(above.id)
        above = nodes.get(above.parent or "")
    return False


def _named(text: str) -> str | None:
    return None if text == "-" else text


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _seconds(start: str, end: str) -> float:
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
