"""How carefully an app publishes, and what a message says."""

import json

import pytest

from shared.signatures import reporter as contract
from tests.unit.app.recording import MakeApp, RecordingProducer, announced, arrived, to


@pytest.mark.parametrize("name", [None, "reporter"])
def test_a_publisher_waits_for_the_brokers_answer_but_not_for_ever(
    make_app: MakeApp, cluster: dict[str, str], name: str | None, producer: RecordingProducer
) -> None:
    # When anyone publishes
    make_app(name, **cluster, publish_timeout=7.0).send_task("reporter.produce_report", **to(producer))
    # Then the broker must confirm in time, and give back what it has no queue for
    [message] = producer.published
    assert message["mandatory"] is True and 0 < message["confirm_timeout"] <= message["timeout"] <= 7.0
    assert message["delivery_mode"] in (2, None) and producer.exchange.delivery_mode in (2, None)


def test_a_caller_may_wait_for_another_time(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    app = make_app(**cluster)
    app.send_task("reporter.produce_report", **to(producer), confirm_timeout=1.5, mandatory=False)
    [message] = producer.published
    assert message["mandatory"] is False and 0 < message["confirm_timeout"] <= 1.5


def test_a_signatures_delay_publishes_with_care_too(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    make_app(**cluster)
    contract.produce_report().apply_async(**to(producer))
    [message] = producer.published
    assert message["mandatory"] is True and 0 < message["confirm_timeout"] <= 10.0


def test_a_cluster_declares_nothing_when_it_publishes(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    make_app(**cluster).send_task("reporter.produce_report", **to(producer))
    assert not producer.published[0].get("declare")


def test_a_message_is_persistent_and_says_what_it_is(make_app: MakeApp) -> None:
    # Given an embedded app
    app = make_app()
    # When a task is published
    with announced() as heard:
        result = app.send_task("reporter.produce_report", kwargs={"period": "day"})
    # Then its message is in the service's queue
    message = arrived(app)
    assert message.properties["delivery_mode"] == 2
    assert message.headers["id"] == result.id == message.properties["correlation_id"]
    assert message.headers["task"] == "reporter.produce_report"
    assert message.delivery_info["exchange"] == "tasks"
    assert message.delivery_info["routing_key"] == "reporter.produce_report"
    assert message.content_type == "application/json" and message.content_encoding == "utf-8"
    assert json.loads(message.body)[:2] == [[], {"period": "day"}]
    # And Celery told the same to whoever listens
    assert [(told["exchange"], told["routing_key"]) for told in heard] == [("tasks", "reporter.produce_report")]
