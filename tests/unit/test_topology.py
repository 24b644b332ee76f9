"""The one truth, and what it refuses."""

import keyword
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import topology
from shared.errors import TopologyError
from shared.spec import STOP_WITHIN, Requests, Schedule, ServiceSpec
from shared.topology import (
    CONSUMER_TIMEOUT,
    PUBLISHERS,
    RESERVED_NAMES,
    SERVICES,
    dead_letter_queue,
    delay_level,
    queue_arguments,
    service,
    validate,
)

GOOD = ServiceSpec(name="painter", summary="paints")

#: Every name that `validate` accepts.
names = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True).filter(
    lambda name: name not in RESERVED_NAMES and not name.startswith("celery_") and not keyword.iskeyword(name)
)


def refusal(*services: ServiceSpec) -> str:
    with pytest.raises(TopologyError) as caught:
        validate(services)
    return str(caught.value)


# --- What is refused --------------------------------------------------------------------------------------------------


def test_the_shipped_topology_is_well_formed() -> None:
    validate()


@pytest.mark.parametrize(
    "name", ["", "Painter", "PAINTER", "pain-ter", "pain.ter", "pain ter", "pain#", "pain*", "1st", "_p", "é", "p\n"]
)
def test_a_name_that_is_no_word_of_a_routing_key_is_refused(name: str) -> None:
    assert refusal(replace(GOOD, name=name)).startswith(f"service {name!r}: a name is lower-case letters")


@pytest.mark.parametrize("name", [*sorted(RESERVED_NAMES), "celery_delayed_5", "celery_delayed_delivery"])
def test_a_name_that_the_system_uses_is_refused(name: str) -> None:
    assert refusal(replace(GOOD, name=name)).startswith(f"service {name!r}: the name is taken")


def test_names_that_lead_to_other_queues_and_users_are_reserved() -> None:
    # Given what RabbitMQ, Redis, Celery and we call something: routing keys, queues and exchanges,
    used = {"all", "amq", "celery", "celeryev", "tasks", "dead", "unrouted"}
    # users of the servers,
    used |= {"admin", "beat", "default", "exporter", "flower", "guest", "monitor", "operator"}
    # and containers and folders
    used |= {"cli", "people", "rabbitmq", "redis", "setup", "shared"}
    # Then no service may be called so
    assert used <= RESERVED_NAMES


def test_two_services_of_one_name_are_refused() -> None:
    assert "'painter' is there twice" in refusal(GOOD, GOOD)


@pytest.mark.parametrize(("scale", "replicas"), [((-1, 2), 1), ((3, 2), 2), ((0, 0), 1), ((2, 5), 1), ((0, 5), 6)])
def test_a_scale_that_is_none_is_refused(scale: tuple[int, int], replicas: int) -> None:
    assert "scale" in refusal(replace(GOOD, scale=scale, replicas=replicas))


@pytest.mark.parametrize("memory", [0, GOOD.memory + 1])
def test_a_request_above_its_limit_is_refused(memory: int) -> None:
    assert "requests.memory" in refusal(replace(GOOD, requests=Requests(memory=memory)))


@pytest.mark.parametrize("concurrency", [(0, 1), (2, 1), (-1, 4), (0, 0)])
def test_a_concurrency_that_is_no_range_is_refused(concurrency: tuple[int, int]) -> None:
    assert f"concurrency {concurrency} must be (least, most)" in refusal(replace(GOOD, concurrency=concurrency))


def test_a_concurrency_of_one_to_one_is_taken() -> None:
    validate((replace(GOOD, concurrency=(1, 1)),))


@pytest.mark.parametrize(
    ("soft", "hard"), [(0, 10), (-1, 10), (10, 10), (11, 10), (60, CONSUMER_TIMEOUT), (60, CONSUMER_TIMEOUT + 1)]
)
def test_time_limits_in_the_wrong_order_are_refused(soft: int, hard: int) -> None:
    complaint = refusal(replace(GOOD, soft_time_limit=soft, time_limit=hard))
    assert "soft_time_limit < time_limit < 1800" in complaint and f"{soft} and {hard}" in complaint


def test_a_time_limit_just_below_the_brokers_consumer_timeout_is_taken() -> None:
    # RabbitMQ's default is half an hour: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
    assert CONSUMER_TIMEOUT == 30 * 60
    validate((replace(GOOD, time_limit=CONSUMER_TIMEOUT - 1, patience=CONSUMER_TIMEOUT),))


def test_a_patience_that_ends_before_a_slow_task_does_is_refused() -> None:
    complaint = refusal(replace(GOOD, patience=GOOD.time_limit))
    assert complaint.startswith("service 'painter': patience must be more seconds than time_limit")


def test_calling_a_service_that_is_not_there_is_refused() -> None:
    assert refusal(replace(GOOD, calls=("sculptor",))).startswith("service 'painter' calls 'sculptor', which is no")


def test_services_may_call_each_other() -> None:
    validate((replace(GOOD, calls=("sculptor",)), replace(GOOD, name="sculptor", calls=("painter",))))


@pytest.mark.parametrize("task", ["sculptor.carve", "painters.paint", "carve", ""])
def test_scheduling_a_task_of_another_service_is_refused(task: str) -> None:
    assert f"schedules {task!r}, a task of another" in refusal(replace(GOOD, schedules=(Schedule(task, "0 0 * * *"),)))


def test_scheduling_what_follows_in_a_service_that_is_not_called_is_refused() -> None:
    # Given a schedule whose result goes to another service
    schedule = Schedule("painter.paint", "0 0 * * *", then="sculptor.carve")
    sculptor = replace(GOOD, name="sculptor")
    # Then the service must be allowed to call that one; itself it may always
    complaint = refusal(replace(GOOD, schedules=(schedule,)), sculptor)
    assert "'sculptor.carve' after 'painter.paint'" in complaint and "add it to `calls`" in complaint
    validate((replace(GOOD, schedules=(schedule,), calls=("sculptor",)), sculptor))
    validate((replace(GOOD, schedules=(replace(schedule, then="painter.frame"),)),))


@pytest.mark.parametrize("schedule", [Schedule("painter.paint"), Schedule("painter.paint", "0 0 * * *", every=10)])
def test_a_schedule_says_when_in_one_way(schedule: Schedule) -> None:
    assert "give it `crontab` or `every`" in refusal(replace(GOOD, schedules=(schedule,)))


@pytest.mark.parametrize("every", [0, -10])
def test_a_schedule_of_no_interval_is_refused(every: int) -> None:
    schedule = Schedule("painter.paint", every=every)
    assert "`every` is seconds, from 1" in refusal(replace(GOOD, schedules=(schedule,)))
    validate((replace(GOOD, schedules=(replace(schedule, every=1),)),))


def test_a_local_value_of_no_setting_is_refused() -> None:
    assert "has BRUSH in `local`" in refusal(replace(GOOD, local={"BRUSH": "flat"}))
    validate((replace(GOOD, settings=("BRUSH",), local={"BRUSH": "flat"}),))


# --- What follows from it ---------------------------------------------------------------------------------------------


def test_a_service_is_found_by_its_name() -> None:
    assert service("reporter").name == "reporter"


def test_asking_for_a_service_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(TopologyError, match=r"no service 'painter': choose one of .*reporter"):
        service("painter")


def test_a_queue_takes_the_tasks_of_its_service_and_of_everyone() -> None:
    assert GOOD.binding_keys == ("painter.#", "all.#")


def test_a_worker_is_started_by_its_services_module() -> None:
    assert GOOD.app == "services.painter.app"


@pytest.mark.parametrize(
    ("hard", "stop_after", "grace"),
    [(90, None, 100), (STOP_WITHIN, None, STOP_WITHIN + 10), (STOP_WITHIN + 1, STOP_WITHIN, 2 * STOP_WITHIN + 11)],
)
def test_a_stop_takes_as_long_as_its_tasks_may_but_not_longer_than_a_node_lives(
    hard: int, stop_after: int | None, grace: int
) -> None:
    spec = replace(GOOD, time_limit=hard)
    assert (spec.stop_after, spec.grace) == (stop_after, grace)


def test_names_are_made_in_one_place() -> None:
    assert dead_letter_queue("painter") == "painter.dead"
    assert delay_level(27) == "celery_delayed_27"


def test_a_work_queue_loses_nothing() -> None:
    # A poisonous message ends in the dead-letter queue, and leaves only when that queue has it.
    assert queue_arguments("painter") == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 5,
        "x-dead-letter-exchange": "tasks.dead",
        "x-dead-letter-routing-key": "painter",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        GOOD.name = "other"  # type: ignore[misc]  # the point of the test


def _is_dot_suffix(one: str, other: str) -> bool:
    return other == one or other.endswith(f".{one}")


@given(st.sets(names, min_size=2, max_size=5))
def test_no_routing_key_of_a_service_is_a_dot_suffix_of_anothers(several: set[str]) -> None:
    # Given any services that `validate` takes
    services = tuple(replace(GOOD, name=name) for name in several)
    validate(services)
    # Then no key of one could stand, after a dot, at the end of another's: delays match keys by their end
    own = [f"{spec.name}.#" for spec in services]
    assert all(own[index] in spec.binding_keys for index, spec in enumerate(services))
    assert not any(_is_dot_suffix(one, other) for one in own for other in own if one is not other)
    # And no queue's name is the name of another's dead letters
    assert not {dead_letter_queue(name) for name in several} & several


@given(st.text("abZ_09.-#*é \n", max_size=6))
def test_what_is_accepted_as_a_name_is_one_plain_word(name: str) -> None:
    try:
        validate((replace(GOOD, name=name),))
    except TopologyError:
        return
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


def test_every_shipped_service_says_what_it_is_in_one_line() -> None:
    for spec in SERVICES:
        assert spec.summary and "\n" not in spec.summary
        assert spec.memory >= 64 * 2**20 and spec.replicas >= 1
        assert all(re.fullmatch(r"[^:\s]+:\d+", host) for host in spec.egress)
        assert not set(spec.settings) & set(spec.secrets)


def test_every_shipped_publisher_calls_services_that_are_there() -> None:
    for spec in PUBLISHERS:
        assert spec.name in RESERVED_NAMES
        assert set(spec.calls) <= {one.name for one in SERVICES}


def test_constants_are_kombus_own() -> None:
    from kombu.transport import native_delayed_delivery as kombu

    assert kombu.MAX_NUMBER_OF_BITS_TO_USE == topology.DELAY_BITS
    assert kombu.CELERY_DELAYED_DELIVERY_EXCHANGE == topology.DELAY_DELIVERY_EXCHANGE
    assert [kombu.level_name(bit) for bit in range(28)] == [delay_level(bit) for bit in range(28)]
