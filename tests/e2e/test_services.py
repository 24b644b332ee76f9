"""Scopes, task logs, the schedule and the ways of messages, in the shipped cluster."""

import json
import re

import pytest

from shared.topology import SERVICES
from tests.e2e.houses import ComposeHouse
from tests.e2e.test_cluster import until

pytestmark = pytest.mark.containers


def published(compose: ComposeHouse, script: str) -> str:
    """What a publisher prints that must succeed."""
    done = compose.publisher(f"from shared.app import create_app\napp = create_app()\n{script}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_service_answers_a_ping_through_its_queue(compose: ComposeHouse) -> None:
    done = compose.celery("ping", "--timeout", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    answered = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert answered.keys() == {spec.name for spec in SERVICES}
    assert all(worker.startswith(f"{name}@") for name, worker in answered.items())


def test_a_route_is_shown_with_who_consumes_it_now(compose: ComposeHouse) -> None:
    done = compose.celery("route", "calculator.add")
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert done.returncode == 0
    assert (shown["exchange"], shown["routing key"]) == ("tasks (topic)", "calculator.add")
    assert shown["queue"] == "calculator" and shown["dead letters"].startswith("calculator.dead,")
    assert shown["consumed by"].startswith("calculator@")


def test_a_route_that_nobody_takes_says_where_the_message_stays(compose: ComposeHouse) -> None:
    done = compose.celery("route", "nobody.does_this")
    assert done.returncode == 1 and "unrouted" in done.stdout


def test_a_scope_goes_through_the_broker_three_levels_deep_and_through_a_delay(compose: ComposeHouse) -> None:
    told = published(
        compose,
        """
import json
from celery import chord, group
from shared.scope import scope
from shared.signatures import scoped
with scope(locale="kk", scenario_id=2, text="Қазақша 日本語", deep={"list": [1, 2.5, None, True]}):
    calls = [scoped.show(3).delay(), scoped.show().apply_async(countdown=1), (scoped.show() | scoped.show.si()).delay()]
plain = scoped.show().delay()
print(json.dumps([call.get(timeout=30) for call in calls] + [plain.get(timeout=30)]))
""",
    )
    expected = {"locale": "kk", "scenario_id": 2, "text": "Қазақша 日本語", "deep": {"list": [1, 2.5, None, True]}}
    assert json.loads(told) == [expected, expected, expected, {}]


def test_the_log_of_a_task_is_found_by_name_and_by_id(compose: ComposeHouse) -> None:
    task = published(
        compose,
        """
from shared.signatures import calculator
call = calculator.add(20, 22).delay()
assert call.get(timeout=30) == 42
print(call.id)
""",
    )
    until("it is logged", lambda: "Result of 20 + 22 = 42" in compose.celery("logs", task).stdout)
    lines = compose.celery("logs", "calculator.add").stdout
    assert f"{task} root={task} attempt=1 Result of 20 + 22 = 42" in lines
    assert compose.celery("logs", "calculator.nothing").returncode == 1


def test_days_are_added_every_ten_seconds(compose: ComposeHouse) -> None:
    # Given the schedule as it is shipped
    listed = compose.celery("schedule", "list").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("calculator.add_days@every 10 s")]
    assert 'calculator.add_days({"days": 1})  every 10 s' in line
    # Then one tick follows the other

    def ticks() -> int:
        return compose.celery("logs", "calculator.add_days").stdout.count("succeeded")

    before = ticks()
    until("two ticks are done", lambda: ticks() >= before + 2, 90)


def test_the_schedule_is_changed_while_beat_runs(compose: ComposeHouse) -> None:
    def schedule(*arguments: str) -> "tuple[int, str]":
        done = compose.celery("schedule", *arguments)
        return done.returncode, done.stdout + done.stderr

    # Given an entry with a scope, added while beat runs
    when = ("--every", "1", "--scope", '{"locale": "fr"}')
    assert schedule("add", "example", "calculator.note", *when, "--kwargs", '{"about": "a tick"}')[0] == 0
    try:
        # Then it is listed, and its task runs
        assert "calculator.note" in (listed := schedule("list")[1]) and '"locale": "fr"' in listed
        until("it runs", lambda: "a tick" in compose.celery("logs", "calculator.note").stdout, 90)
        # When it is added again, then it is changed
        again = schedule("add", "example", "calculator.add_days", "--every", "3600", "--kwargs", '{"days": 2}')
        assert again == (0, "changed  example\n")
        assert "every 3600 s" in schedule("list")[1]
    finally:
        assert schedule("remove", "example") == (0, "removed  example\n")
    assert "example" not in schedule("list")[1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("add", "x", "calculator.add_days", "--every", "10"), "days"),
        (("add", "x", "calculator.add_days", "--every", "10", "--kwargs", '{"days": "soon"}'), "days"),
        (("add", "x", "calculator.none", "--every", "10"), "no task is called calculator.none"),
        (("add", "x", "calculator.add_days", "--kwargs", '{"days": 1}'), "either --crontab or --every"),
        (("add", "x", "calculator.add_days", "--crontab", "1 2 3", "--kwargs", '{"days": 1}'), "--crontab"),
        (("add", "reporter.produce_report@0 0 * * *", "calculator.add_days", "--every", "9"), "shared/topology.py"),
        (("remove", "reporter.produce_report@0 0 * * *"), "shared/topology.py"),
        (("remove", "calculator.add_days@every 10 s"), "shared/topology.py"),
    ],
)
def test_a_wrong_entry_is_refused_before_it_is_stored(
    compose: ComposeHouse, arguments: tuple[str, ...], complaint: str
) -> None:
    done = compose.celery("schedule", *arguments)
    assert done.returncode == 2 and complaint in done.stderr
