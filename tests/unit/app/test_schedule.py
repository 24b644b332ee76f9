"""What beat publishes, and when."""

from dataclasses import replace

import pytest

import shared.app
import shared.celery_config
from shared.errors import InvalidArguments
from shared.signatures import mailer
from shared.spec import Schedule
from shared.topology import SERVICES
from tests.unit.app.recording import MakeApp


def scheduled(monkeypatch: pytest.MonkeyPatch, *schedules: Schedule) -> None:
    monkeypatch.setattr(shared.celery_config, "SERVICES", (replace(SERVICES[0], schedules=schedules),))


def test_beat_publishes_what_the_services_schedule(make_app: MakeApp, settings: dict[str, str]) -> None:
    app = make_app(**settings)
    entries = {schedule.name for spec in SERVICES for schedule in spec.schedules}
    assert set(app.conf.beat_schedule) == entries
    nightly = app.conf.beat_schedule["reporter.produce_report@0 0 * * *"]
    assert nightly["kwargs"] == {"period": "day"}
    assert nightly["options"] == {
        "ignore_result": True,
        "expires": 12 * 3600,
        "link": [mailer.send_report.s()],
    }
    assert (nightly["schedule"].hour, nightly["schedule"].minute) == ({0}, {0})


def test_days_are_added_every_ten_seconds(make_app: MakeApp, settings: dict[str, str]) -> None:
    # The example of a schedule by seconds. Nobody wants a tick when the next one is there.
    entry = make_app(**settings).conf.beat_schedule["calculator.add_days@every 10 s"]
    assert (entry["task"], entry["kwargs"]) == ("calculator.add_days", {"days": 1})
    assert entry["schedule"].run_every.total_seconds() == 10
    assert entry["options"] == {"ignore_result": True, "expires": 10}


def test_a_worker_schedules_nothing(make_app: MakeApp, settings: dict[str, str]) -> None:
    assert make_app("reporter", **settings).conf.beat_schedule == {}


def test_a_schedule_with_a_wrong_argument_stops_beat(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_report", "0 0 * * *", {"period": "year"}))
    with pytest.raises(InvalidArguments, match=r"reporter\.produce_report: period"):
        make_app()


def test_a_schedule_of_a_task_that_nobody_declared_stops_beat(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_reports", "0 0 * * *"))
    with pytest.raises(LookupError, match="produce_reports"):
        make_app()


@pytest.mark.parametrize("crontab", ["0 0 * *", "61 0 * * *", "daily"])
def test_a_schedule_at_no_time_stops_beat(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, crontab: str) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_report", crontab))
    with pytest.raises(ValueError):
        make_app()


def test_a_worker_does_not_stop_for_a_wrong_schedule(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_report", "0 0 * * *", {"period": "year"}))
    assert make_app("reporter").conf.beat_schedule == {}
