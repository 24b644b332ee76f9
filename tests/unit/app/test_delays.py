"""Delays, which the broker keeps."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.native_delayed_delivery import calculate_routing_key

from shared.delays import whole_seconds
from tests.unit.app.recording import MakeApp, RecordingProducer, to

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("countdown", "whole"), [(0.001, 1), (0.5, 1), (1, 1), (1.0, 1), (1.01, 2), (59.9, 60), (3600, 3600)]
)
def test_a_countdown_is_rounded_up_towhole_seconds(countdown: float, whole: int) -> None:
    rounded = whole_seconds(countdown, None, NOW)
    assert rounded == {"countdown": whole} and isinstance(rounded["countdown"], int)


@pytest.mark.parametrize("countdown", [None, 0, 0.0, -1, -0.5])
def test_no_countdown_is_left_as_it_is(countdown: float | None) -> None:
    assert whole_seconds(countdown, None, NOW) == {}


@pytest.mark.parametrize("ahead", [0.000001, 0.001, 0.5, 0.999999, 1])
def test_an_eta_of_up_to_a_second_becomes_a_second(ahead: float) -> None:
    assert whole_seconds(None, NOW + timedelta(seconds=ahead), NOW) == {"countdown": 1, "eta": None}


@pytest.mark.parametrize("ahead", [1.000001, 1.5, 1.999999])
def test_an_eta_of_just_over_a_second_becomes_two(ahead: float) -> None:
    # Celery counts again a moment later, and then it may be less than one.
    assert whole_seconds(None, NOW + timedelta(seconds=ahead), NOW) == {"countdown": 2, "eta": None}


@pytest.mark.parametrize("ahead", [-3600, -0.5, 0, 2, 2.5, 3600])
def test_any_other_eta_is_left_as_it_is(ahead: float) -> None:
    assert whole_seconds(None, NOW + timedelta(seconds=ahead), NOW) == {}


@pytest.mark.parametrize(
    "eta",
    [
        NOW + timedelta(seconds=0.5),
        (NOW + timedelta(seconds=0.5)).replace(tzinfo=None),
        (NOW + timedelta(seconds=0.5)).astimezone(timezone(timedelta(hours=5, minutes=30))),
        "2026-03-15T12:00:00.500000+00:00",
        "2026-03-15T12:00:00.500000Z",
        "2026-03-15T12:00:00.500000",
        "2026-03-15T17:30:00.500000+05:30",
    ],
    ids=str,
)
def test_an_eta_is_read_in_any_form(eta: datetime | str) -> None:
    assert whole_seconds(None, eta, NOW) == {"countdown": 1, "eta": None}


@given(st.floats(min_value=0.001, max_value=2**27))
def test_any_countdown_gives_a_key_that_the_broker_can_hold(countdown: float) -> None:
    # Given any delay
    whole = whole_seconds(countdown, None, NOW)["countdown"]
    # Then it is never too short, nor a second too long, and kombu makes a key of it
    assert countdown <= whole < countdown + 1
    assert calculate_routing_key(whole, "reporter.x").endswith(".reporter.x")


@pytest.mark.parametrize("name", [None, "reporter"])
@pytest.mark.parametrize(
    ("options", "seconds"),
    [({"countdown": 0.2}, 1), ({"countdown": 5}, 5), ({"countdown": 4.2}, 5), ({"countdown": 86400}, 86400)],
)
def test_a_delayed_task_waits_in_the_broker(
    make_app: MakeApp,
    cluster: dict[str, str],
    name: str | None,
    options: dict[str, Any],
    seconds: int,
    producer: RecordingProducer,
) -> None:
    # When a task is published with a delay
    make_app(name, **cluster).send_task("reporter.produce_report", **to(producer), **options)
    # Then it goes to the first of the delay exchanges, with the delay before its key
    [message] = producer.published
    assert message["exchange"].name == "celery_delayed_27"
    assert message["routing_key"] == calculate_routing_key(seconds, "reporter.produce_report")


@pytest.mark.parametrize("ahead", [0.3, 1.0005, 30])
def test_an_eta_waits_in_the_broker(
    make_app: MakeApp, cluster: dict[str, str], ahead: float, producer: RecordingProducer
) -> None:
    app = make_app(**cluster)
    app.send_task("reporter.produce_report", **to(producer), eta=app.now() + timedelta(seconds=ahead))
    [message] = producer.published
    assert message["exchange"].name == "celery_delayed_27"


@pytest.mark.parametrize("options", [{"countdown": 0}, {"countdown": -5}, {"eta": NOW - timedelta(days=400)}])
def test_a_delay_that_is_over_does_not_delay(
    make_app: MakeApp, cluster: dict[str, str], options: dict[str, Any], producer: RecordingProducer
) -> None:
    make_app(**cluster).send_task("reporter.produce_report", **to(producer), **options)
    assert producer.published[0]["exchange"] == "tasks"
    assert producer.published[0]["routing_key"] == "reporter.produce_report"
