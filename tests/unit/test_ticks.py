"""Two beats give one tick one id."""

from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import crontab, schedule
from redbeat import RedBeatSchedulerEntry

from shared import ticks
from shared.app import create_app
from shared.beat import Entry, Scheduler, keyed
from tests.servers import OwnRedis

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "now", "due"),
    [
        ("0 0 * * *", datetime(2026, 11, 20, 0, 0, 3, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)),
        ("0 0 * * *", datetime(2026, 11, 20, 23, 59, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)),
        ("*/5 * * * *", datetime(2026, 11, 20, 12, 9, 59, tzinfo=UTC), datetime(2026, 11, 20, 12, 5, tzinfo=UTC)),
        ("30 6 1 * *", datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
        ("0 0 1 1 *", datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2026, 11, 20, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_tick_belongs_to_the_latest_time_of_its_crontab(fields: str, now: datetime, due: datetime) -> None:
    assert ticks.due(crontab.from_string(fields), now) == due


def test_two_beats_give_one_tick_one_id_and_the_next_another() -> None:
    # Given two beats that publish the same tick, one a little later, and the tick after it
    hourly = crontab.from_string("0 * * * *")
    first, second = (ticks.task_id("digest", hourly, NOON + timedelta(seconds=late)) for late in (0.01, 42))
    after = ticks.task_id("digest", hourly, NOON + timedelta(hours=1))

    # Then the one has one id, and the other another
    assert first == second
    assert after != first
    # And another entry of the same time has its own
    assert ticks.task_id("report", hourly, NOON) != first


def test_each_tick_of_an_interval_has_an_id_of_its_own() -> None:
    # Given ticks that are a little more than their interval apart, as beat makes them
    times = [NOON + timedelta(seconds=2.01 * number) for number in range(100)]

    # Then no two have the same id
    assert len({ticks.task_id("often", schedule(2.0), at) for at in times}) == 100


def test_two_schedulers_publish_one_tick_with_one_id(redis: OwnRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an entry in Redis, and two beats that have both read it
    monkeypatch.setenv("BROKER_URL", "amqp://beat@127.0.0.1:9//")
    monkeypatch.setenv("REDIS_URL", redis.url)
    app = create_app(current=False)
    app.conf.beat_schedule = {}
    entry = RedBeatSchedulerEntry("hourly", "mailer.send_digest", crontab.from_string("0 * * * *"), app=app)
    entry.save()
    published: list[str] = []
    monkeypatch.setattr(app, "send_task", lambda *_, **options: published.append(options["task_id"]))
    monkeypatch.setattr(Scheduler, "producer", None)
    beats = [Scheduler(app, lazy=True) for _ in range(2)]
    read = [RedBeatSchedulerEntry.from_key(entry.key, app=app) for _ in beats]

    # When both find it due
    for beat, one in zip(beats, read, strict=True):
        beat.apply_async(one)

    # Then each has published it, under the same id, and the entry keeps none
    assert len(published) == 2 and len(set(published)) == 1
    assert "task_id" not in RedBeatSchedulerEntry.from_key(entry.key, app=app).options


def test_a_beat_whose_clock_is_ahead_puts_nothing_off(redis: OwnRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a schedule that one beat has stored
    monkeypatch.setenv("BROKER_URL", "amqp://beat@127.0.0.1:9//")
    monkeypatch.setenv("REDIS_URL", redis.url)
    app = create_app(current=False)
    often = {"name": "often", "task": "mailer.send_digest", "schedule": schedule(1.0), "app": app}
    first = Entry(**often)
    first.save()
    looked_at = redis.client.zscore(app.redbeat_conf.schedule_key, first.key)

    # When another one starts whose clock is ten minutes ahead
    monkeypatch.setattr(Entry, "default_now", lambda self: datetime.now(UTC) + timedelta(minutes=10))
    Entry(**often).save()

    # Then the first one looks at it when it would have
    assert redis.client.zscore(app.redbeat_conf.schedule_key, first.key) == looked_at


def test_what_follows_a_tick_has_an_id_that_follows_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the entry of the midnight report, whose mail follows it
    monkeypatch.setenv("BROKER_URL", "amqp://beat@rabbitmq:5672//")
    monkeypatch.setenv("REDIS_URL", "redis://beat@redis:6379/0")
    app = create_app(current=False)
    name, entry = next((name, one) for name, one in app.conf.beat_schedule.items() if "produce_report" in name)

    # When two beats publish it
    one, other = (keyed(entry["options"], name, entry["schedule"], NOON + timedelta(seconds=late)) for late in (0, 5))

    # Then report and mail have the same ids from both, and the entry itself is as it was
    assert one == other
    assert one["task_id"] != one["link"][0]["options"]["task_id"]
    assert one["link"][0]["task"] == "mailer.send_report"
    assert "task_id" not in entry["options"]
