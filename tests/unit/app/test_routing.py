"""Where each task goes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, chunks, group

from shared.app import App
from shared.routing import route
from shared.signatures import Declaration
from shared.signatures import reporter as contract
from shared.topology import SERVICES
from tests.unit.app.recording import MakeApp, RecordingProducer, arrived, to

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


def sent(app: App, signature: Any, producer: RecordingProducer) -> list[tuple[Any, Any]]:
    """Exchange and routing key of what publishing `signature` sends."""
    signature.clone().apply_async(**to(producer))
    return [(message["exchange"], message["routing_key"]) for message in producer.published]


@pytest.mark.parametrize("name", [None, "reporter"])
@pytest.mark.parametrize("task", ["reporter.produce_report", "painter.paint.v2", "all.ping", "unheard_of"])
def test_a_task_goes_to_the_tasks_exchange_by_its_name(
    make_app: MakeApp, settings: dict[str, str], name: str | None, task: str, producer: RecordingProducer
) -> None:
    app = make_app(name, **settings)
    app.send_task(task, **to(producer))
    [message] = producer.published
    assert (message["exchange"], message["routing_key"]) == ("tasks", task)


def test_a_signature_goes_the_same_way_through_any_app(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    assert sent(make_app(**cluster), contract.produce_report(), producer) == [("tasks", "reporter.produce_report")]


@pytest.mark.parametrize("name", [None, "reporter"])
def test_chunks_go_to_the_service_of_their_task(
    make_app: MakeApp, name: str | None, producer: RecordingProducer
) -> None:
    # Given chunks of a task, published by anyone
    make_app(name)
    parts = chunks(contract.fetch_repos.s(), [("2026-01-01", 100, page) for page in range(1, 5)], 2).group()
    # When each is published
    for part in parts.tasks:
        part.apply_async(**to(producer))
    # Then the iteration runs where the task runs
    assert [message["headers"]["task"] for message in producer.published] == ["celery.starmap"] * 2
    assert [message["routing_key"] for message in producer.published] == ["reporter.fetch_repos"] * 2


@pytest.mark.parametrize("builtin", ["celery.map", "celery.starmap", "celery.chunks"])
def test_an_iteration_goes_to_the_service_of_its_task(builtin: str) -> None:
    # Given its task as an argument by name, as Celery gives it, or by place
    inner = contract.fetch_repos.s()
    for args, kwargs in (((), {"task": inner, "it": []}), ((dict(inner), []), {}), ((inner, []), None)):
        # Then its key leads to the task's service, whoever publishes
        assert route(None, builtin, args, kwargs)["routing_key"] == f"reporter.{builtin}"


@pytest.mark.parametrize("builtin", ["celery.accumulate", "celery.chord_unlock", "celery.backend_cleanup"])
def test_other_builtins_run_where_they_are_published(
    make_app: MakeApp, builtin: str, producer: RecordingProducer
) -> None:
    app = make_app("reporter")
    app.send_task(builtin, **to(producer))
    assert producer.published[0]["routing_key"] == f"reporter.{builtin}"


def _silent(item: int) -> None: ...


def test_celerys_own_tasks_answer_where_the_tasks_do_that_they_work_for(
    make_app: MakeApp, producer: RecordingProducer
) -> None:
    # Given a configuration that ignores results unless told otherwise
    app = make_app("reporter")
    assert app.conf.task_ignore_result
    # When a group takes a task's place, and tasks are run for each item
    app.tasks["celery.accumulate"].s(index=0).apply_async(**to(producer))
    for inner in (contract.fetch_repos, contract.produce_report):
        inner.map([1]).apply_async(**to(producer))
    silent: Declaration[..., Any] = Declaration("reporter.silent", _silent, keeps_result=False)
    silent.map([1]).apply_async(**to(producer))
    # Then each answers, unless the inner task does not
    assert [message["headers"]["ignore_result"] for message in producer.published] == [False, False, False, True]


def test_every_key_of_a_worker_leads_to_a_queue_that_its_user_may_publish_to() -> None:
    # A service may publish keys that begin with its own name, so its built-ins must begin so too.
    for spec in SERVICES:
        assert route(spec, "celery.accumulate", (), {})["routing_key"].startswith(f"{spec.name}.")


def test_a_canvas_is_routed_task_by_task(make_app: MakeApp) -> None:
    # Given an embedded app, and a chord in a chain
    app = make_app()
    pages = [contract.fetch_repos(NOW.date() - timedelta(400), 100, page) for page in (1, 2)]
    callback = contract.build_report.s(
        assignment={"question": {"since": "2026-01-01", "ref_date": "2026-01-08"}, "task_id": "t", "started": 1.0}
    )
    # When it is published
    chord(group(pages), callback).apply_async()
    # Then each page is in the service's queue with the callback's way inside
    keys, callbacks = [], []
    for _ in pages:
        message = arrived(app)
        keys.append(message.delivery_info["routing_key"])
        callbacks.append(json.loads(message.body)[2]["chord"]["options"]["routing_key"])
    assert keys == ["reporter.fetch_repos"] * 2 and callbacks == ["reporter.build_report"] * 2
    assert arrived(app) is None
    # And a chain sends its first task only
    chain(pages[0], callback).apply_async()
    assert arrived(app).headers["task"] == "reporter.fetch_repos" and arrived(app) is None
