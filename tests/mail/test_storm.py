"""Storm control, over each store that counts for it."""

import socket
from pathlib import Path

import pytest

from services.mailer.storm import (
    DROPPED,
    HOUR,
    MOST_LINES,
    OTHERS,
    WINDOWS,
    Guard,
    HeldBack,
    Limits,
    Report,
    Storm,
    StormAway,
)
from services.mailer.storm_redis import RedisStorm
from services.mailer.storm_sqlite import SqliteStorm
from shared.signatures.mailer import Window
from tests.servers import OwnRedis, redis_client

NOW = 1_800_000_000.0
WIDE = Limits(window=600, hourly=1000)


def report(event: str, fingerprint: str = "ZeroDivisionError:app.py:3", seen: float = NOW) -> Report:
    return Report(event, fingerprint, f"{fingerprint} in {event}", seen)


def test_the_first_of_a_kind_is_mailed_and_the_rest_is_counted(storm: Storm) -> None:
    # Given 100 reports of one fault, one a second
    admitted = [storm.admit(report(f"t{n}", seen=NOW + n), WIDE, NOW + n) for n in range(100)]
    # Then the first is mailed
    assert admitted == [True] + [False] * 99
    # And the others are counted, with when they came and what the latest said
    fingerprint = "ZeroDivisionError:app.py:3"
    assert storm.take("1h", "digest") == [HeldBack(fingerprint, f"{fingerprint} in t99", 99, NOW + 1, NOW + 99)]


def test_a_report_that_comes_late_moves_the_first_and_not_the_last(storm: Storm) -> None:
    # Given reports that were spooled elsewhere, and come in any order
    for event, seen in (("t0", NOW), ("t1", NOW + 10), ("t2", NOW + 5), ("t3", NOW - 500)):
        storm.admit(report(event, seen=seen), WIDE, NOW + 20)
    held = storm.take("1h", "digest")[0]
    assert (held.count, held.first, held.last) == (3, NOW - 500, NOW + 10)
    assert held.subject.endswith("t1")


def test_faults_are_told_apart_by_their_fingerprints(storm: Storm) -> None:
    assert [storm.admit(report(f"t{n}", fingerprint=f"fault {n}"), WIDE, NOW) for n in range(10)] == [True] * 10


def test_a_fault_is_mailed_again_in_the_next_window(storm: Storm) -> None:
    assert storm.admit(report("t0"), WIDE, NOW)
    assert not storm.admit(report("t1"), WIDE, NOW + WIDE.window - 1)
    assert storm.admit(report("t2"), WIDE, NOW + WIDE.window)


def test_a_mail_that_needs_another_attempt_is_admitted_again(storm: Storm) -> None:
    # Given a report that was admitted, whose mail the server deferred
    assert storm.admit(report("t0"), WIDE, NOW)
    # When its task comes again
    # Then it is admitted, and counted neither as held back nor as one more of the hour
    assert all(storm.admit(report("t0"), Limits(600, 1), NOW + n) for n in range(5))
    assert storm.take("1h", "digest") == []


def test_no_hour_has_more_mails_than_the_cap(storm: Storm) -> None:
    # Given faults that are all different, one every ten minutes, for a day
    limits = Limits(window=60, hourly=3)
    times = [NOW + n * 600 for n in range(144)]
    mailed = [at for n, at in enumerate(times) if storm.admit(report(f"t{n}", f"fault {n}"), limits, at)]
    # Then any hour, whenever it begins, has three mails at most
    assert mailed and all(sum(at <= other < at + HOUR for other in mailed) <= 3 for at in mailed)
    # And those that were not mailed are counted
    assert sum(line.count for line in storm.take("day", "digest")) == 144 - len(mailed)


@pytest.mark.parametrize("window", WINDOWS)
def test_each_digest_counts_for_itself(storm: Storm, window: Window) -> None:
    for n in range(3):
        storm.admit(report(f"t{n}"), WIDE, NOW)
    for other in WINDOWS:
        if other != window:
            storm.take(other, "digest")
            storm.done(other, "digest")
    assert storm.take(window, "digest")[0].count == 2


def test_a_digest_that_needs_another_attempt_says_the_same(storm: Storm) -> None:
    # Given a digest that took what was held back, and was not sent
    storm.admit(report("t0"), WIDE, NOW)
    storm.admit(report("t1"), WIDE, NOW)
    first = storm.take("1h", "digest")
    storm.admit(report("t2"), WIDE, NOW)
    # When it comes again, it says the same; and the next one the rest
    assert storm.take("1h", "digest") == first
    storm.done("1h", "digest")
    assert [line.count for line in storm.take("1h", "next")] == [1]
    # And nothing is told twice
    storm.done("1h", "next")
    assert storm.take("1h", "last") == []


def test_many_faults_make_a_digest_of_bounded_length(storm: Storm) -> None:
    # Given more faults than a digest lists
    storm.hold("1h", [HeldBack(f"fault {n:04}", "s", 2, NOW + n, NOW + n) for n in range(MOST_LINES + 30)])
    # Then the rest is one line with all of them
    lines = storm.take("1h", "digest")
    assert len(lines) == MOST_LINES + 1
    assert lines[0] == HeldBack(OTHERS, "other errors", 60, NOW + MOST_LINES, NOW + MOST_LINES + 29)
    assert sum(line.count for line in lines) == 2 * (MOST_LINES + 30)


class TestGuard:
    """Redis goes away and comes back."""

    def test_it_goes_on_in_bounds_and_brings_home_what_it_counted(self, redis: OwnRedis, tmp_path: Path) -> None:
        main, away = RedisStorm(redis.client), RedisStorm(redis_client(port=1))
        local = SqliteStorm(tmp_path / "storm.sqlite")
        limits = Limits(window=600, hourly=2)
        # Given a worker that has lost Redis
        lost = Guard(away, local, limits)
        # When 50 reports of five faults come
        admitted = [lost.admit(report(f"t{n}", f"fault {n % 5}"), NOW) for n in range(50)]
        # Then it mails no more than the cap
        assert sum(admitted) == 2
        # And when Redis is back, the digest tells of all the others
        found = Guard(main, local, limits)
        held = found.take("1h", "digest")
        assert sum(line.count for line in held) == 48 and len(held) == 5
        assert local.take("1h", "any") == []

    def test_what_was_counted_here_is_told_by_another_container(self, redis: OwnRedis, tmp_path: Path) -> None:
        # Given a worker that counted by itself while Redis was away
        main, local = RedisStorm(redis.client), SqliteStorm(tmp_path / "storm.sqlite")
        lost = Guard(RedisStorm(redis_client(port=1)), local, WIDE)
        assert [lost.admit(report(f"t{n}"), NOW) for n in range(5)] == [True] + [False] * 4
        # When it finds Redis again, and another worker writes the digest
        Guard(main, local, WIDE).admit(report("other", "another fault"), NOW)
        other = Guard(main, SqliteStorm(tmp_path / "other.sqlite"), WIDE)
        # Then the digest has what the first one held back
        assert [line.count for line in other.take("1h", "digest")] == [4]

    def test_a_redis_that_is_silent_does_not_hold_up_a_storm(self, tmp_path: Path) -> None:
        # Given a Redis that takes connections and says nothing
        with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
            storm = RedisStorm(redis_client(silent.getsockname()[1], timeout=0.2))
            guard = Guard(storm, SqliteStorm(tmp_path / "storm.sqlite"), WIDE)
            # When 30 reports come
            assert [guard.admit(report(f"t{n}"), NOW) for n in range(30)] == [True] + [False] * 29
            # Then it was asked once
            silent.accept()[0].close()
            silent.settimeout(0)
            with pytest.raises(BlockingIOError):
                silent.accept()

    def test_what_programs_dropped_is_in_the_digest(self, storm: Storm) -> None:
        guard = Guard(storm, None, WIDE)
        guard.admit(report("t0"), NOW, dropped=7)
        guard.admit(report("t1", "other"), NOW, dropped=5)
        assert [(line.fingerprint, line.count) for line in guard.take("1h", "digest")] == [(DROPPED, 12)]

    def test_without_any_counters_it_says_so(self) -> None:
        guard = Guard(RedisStorm(redis_client(port=1)), None, WIDE)
        with pytest.raises(StormAway):
            guard.admit(report("t0"), NOW)


def test_nothing_in_redis_stays_for_ever(redis: OwnRedis) -> None:
    storm = RedisStorm(redis.client)
    for n in range(2):
        storm.admit(report(f"t{n}"), WIDE, NOW)
    storm.take("1h", "digest")
    names = list(redis.client.scan_iter())
    assert len(names) == 5 and all(redis.client.ttl(name) > 0 for name in names)
