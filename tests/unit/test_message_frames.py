"""Frames that are written from a template are those that py-amqp writes."""

from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps as arguments
from celery.utils.saferepr import saferepr
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils.json import dumps

from shared.message_frames import Caught, Marks, Template, frames, show

FRAME_MAX = 4096
CHANNEL = 3
plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


class Recorder:
    """A connection whose transport keeps what is written."""

    frame_max = FRAME_MAX
    bytes_sent = 0

    def __init__(self) -> None:
        self.written = b""

    def write(self, content: Any) -> None:
        self.written += bytes(content)


def by_py_amqp(message: Message, key: str) -> bytes:
    """A publish as py-amqp writes it."""
    recorder = Recorder()
    write = frame_writer(recorder, recorder)
    write(1, CHANNEL, (60, 40), arguments("Bssbb", (0, "tasks", key, True, False)), message)
    return recorder.written


def message(
    body: bytes, task_id: str, shown: tuple[str, str], headers: dict[str, Any], published: tuple[str, int] = ("", 0)
) -> Message:
    """A task's message."""
    told = {"task": "a.b", "id": task_id, "argsrepr": shown[0], **headers, "kwargsrepr": shown[1], "root_id": task_id}
    told |= {"first": published[0], "due": published[0]}
    return Message(
        body,
        priority=0,
        content_type="application/json",
        content_encoding="utf-8",
        application_headers=told,
        delivery_mode=2,
        correlation_id=task_id,
        reply_to="somebody",
        timestamp=published[1],
    )


@settings(max_examples=50)
@given(
    st.text(min_size=1, max_size=60).filter(lambda text: len(text.encode()) < 256),
    st.lists(values, max_size=3),
    st.dictionaries(st.text(), values, max_size=3),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), st.integers(0, 9), max_size=3),
    st.tuples(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(0, 2**63)),
)
def test_a_template_gives_what_py_amqp_writes(
    task_id: str, args: list[Any], kwargs: dict[str, Any], headers: dict[str, Any], published: tuple[str, int]
) -> None:
    # Given a template made of another message of the task
    marks, rest = Marks(), {"callbacks": None, "chord": None}
    headers = {f"x-{name}": value for name, value in headers.items()}
    other = message(b"{}", marks.id, (marks.args, marks.kwargs), headers, (marks.published, marks.timestamp))
    caught = Caught(([1], {}, rest), other, "tasks", "a.b", mandatory=True)
    template = Template(caught, marks, CHANNEL, FRAME_MAX)
    # When it is filled
    shown = show(args, 1024, 3), show(kwargs, 1024, 3)
    content = template.body(args, kwargs)
    written = template.frames(task_id, content, shown, published)
    # Then these are the frames of that message
    body = dumps((args, kwargs, rest)).encode()
    expected = message(body, task_id, shown, headers, published)
    assert content == body
    assert written == by_py_amqp(expected, "a.b")
    assert written == frames(CHANNEL, FRAME_MAX, "tasks", "a.b", True, expected._serialize_properties(), body)


def test_a_large_body_leaves_in_frames_that_the_broker_takes() -> None:
    body = b"x" * (3 * FRAME_MAX)
    whole = message(body, "an-id", ("()", "{}"), {})
    written = frames(CHANNEL, FRAME_MAX, "tasks", "a.b", True, whole._serialize_properties(), body)
    assert written == by_py_amqp(whole, "a.b")


def test_headers_that_do_not_fit_into_a_frame_are_none_of_ours() -> None:
    huge = message(b"{}", "an-id", ("()", "{}"), {"mine": "x" * FRAME_MAX})
    assert frames(CHANNEL, FRAME_MAX, "tasks", "a.b", True, huge._serialize_properties(), b"{}") is None


def test_a_mark_inside_of_something_else_makes_no_template() -> None:
    marks = Marks()
    within = message(b"{}", marks.id, (marks.args, marks.kwargs), {"mine": f"for {marks.id}"})
    with pytest.raises(ValueError, match="part of something larger"):
        Template(Caught(([], {}, {}), within, "tasks", "a.b", mandatory=True), marks, CHANNEL, FRAME_MAX)


@given(st.lists(values, max_size=4).map(tuple) | st.lists(values, max_size=4) | st.dictionaries(st.text(), values))
def test_arguments_look_as_celery_shows_them(value: Any) -> None:
    assert show(value, 1024, 3) == saferepr(value, 1024, maxlevels=3)


@given(st.dictionaries(st.sampled_from("a b c about".split()), st.text("ab 01._-:/", max_size=400)))
def test_long_texts_are_cut_where_celery_cuts_them(value: Any) -> None:
    assert show(value, 1024, 3) == saferepr(value, 1024, maxlevels=3)
