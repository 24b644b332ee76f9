"""A worker says whether it is alive and whether it takes work, whatever happens to it."""

import os
import signal
import statistics
import time

import pytest

from shared.spec import Pool
from tests.waiting import eventually
from tests.watching.house import QUEUE, House

pytestmark = pytest.mark.containers

#: Seconds, given by those who probe: within them a worker that consumes nothing must say so.
TOLD_WITHIN = 15.0
#: Seconds of one answer.
QUICK = 0.01


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_worker_that_consumes_is_alive_and_ready_and_says_so_quickly(house: House, pool: Pool) -> None:
    # Given a worker that runs, with any pool
    house.start(pool=pool)
    # Then it is both, by GET, and knows nothing else
    assert house.ask("/healthz") == (200, "ok\n")
    assert house.ask("/readyz?from=probe") == (200, "ok\n")
    assert house.ask("/")[0] == 404
    assert house.works()

    # When it is asked often
    def seconds() -> float:
        begun = time.perf_counter()
        house.ready()
        return time.perf_counter() - begun

    # Then an answer takes milliseconds
    assert statistics.median(seconds() for _ in range(50)) < QUICK
    # When it is told to end, then it does
    house.worker.terminate()
    assert house.worker.wait(20) == 0


def test_a_worker_whose_queue_was_deleted_is_unready_and_consumes_again_by_itself(house: House) -> None:
    house.start()
    # When its queue goes, which cancels the consumer
    house.broker.run("rabbitmqctl", "delete_queue", QUEUE)
    # Then it is not ready, but alive
    assert house.becomes_unready(TOLD_WITHIN) < TOLD_WITHIN
    # When the queue is there again
    house.broker.run("rabbitmqctl", "import_definitions", "/run/definitions/definitions.json")
    # Then so is the worker, the same process
    eventually(house.ready)
    assert house.works()
    assert house.worker.poll() is None


def test_a_consumer_that_was_lost_in_silence_is_made_anew(house: House) -> None:
    house.start()
    # When the broker has cancelled the consumer, and kombu did not notice
    house.app.control.broadcast("lose_consumer")
    # Then the worker is not ready
    assert house.becomes_unready(TOLD_WITHIN) < TOLD_WITHIN
    assert house.reason() == f"it has no consumer on {QUEUE}"
    # And soon it is, by itself
    eventually(house.ready)
    assert house.works()


def test_a_consumer_that_an_operator_cancelled_stays_away_until_he_adds_it(house: House) -> None:
    house.start()
    # When an operator cancels the consumer
    house.app.control.cancel_consumer(QUEUE)
    # Then the worker is not ready
    assert house.becomes_unready(TOLD_WITHIN) < TOLD_WITHIN
    assert house.reason() == f"an operator cancelled its consumer on {QUEUE}"
    # When he adds it again, then it is
    house.app.control.add_consumer(QUEUE)
    eventually(house.ready)
    assert house.works()
    # And when he adds another service's, which every worker hears, it has nothing to do with that
    house.app.control.add_consumer("mailer")
    eventually(lambda: "'mailer' is another service's" in house.log.read_text())
    assert house.works() and house.ready()
    assert "ACCESS_REFUSED" not in house.log.read_text()


def test_a_pool_that_hangs_is_unready(house: House) -> None:
    house.start()
    # When every process of the pool hangs
    house.signal_pool(signal.SIGSTOP)
    # Then it is not ready
    assert house.becomes_unready(TOLD_WITHIN) < TOLD_WITHIN
    assert house.reason() == "no process of its pool runs"
    # When they go on, it is
    house.signal_pool(signal.SIGCONT)
    eventually(house.ready)


def test_a_loop_that_hangs_is_told(house: House) -> None:
    house.start()
    # When the worker's main process does nothing any more, not even answer
    os.kill(house.worker.pid, signal.SIGSTOP)
    # Then nobody who asks has an answer
    with pytest.raises(TimeoutError):
        house.ask("/healthz", timeout=1)
    os.kill(house.worker.pid, signal.SIGCONT)
    eventually(house.ready)


@pytest.mark.long
def test_a_broker_that_pauses_for_two_minutes_leaves_a_worker_alive(house: House) -> None:
    house.start()
    # When the broker says nothing for longer than a connection lives
    until = time.monotonic() + 120
    house.broker.freeze()
    try:
        # Then the worker is not ready any more
        house.becomes_unready(40)
        # And alive all the while
        while time.monotonic() < until:
            assert house.ask("/healthz") == (200, "ok\n")
            time.sleep(0.2)
    finally:
        house.broker.thaw()
    # When it speaks again, then the same process is ready
    eventually(house.ready, patience=60)
    assert house.works()
    assert house.worker.poll() is None
