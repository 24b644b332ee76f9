"""The logging handler, with a broker, without one, and with one that says nothing."""

import json
import logging
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from shared.app import App
from shared.config import Settings
from shared.error_mail import ErrorMailHandler
from shared.routing import queue
from shared.topology import service
from tests.mail.worker import publisher
from tests.waiting import PATIENCE, eventually

#: Seconds that a request may be held, as promised.
HELD = 0.05


class Mailbox:
    """The mailer's queue in an embedded house: what was published and nobody has taken."""

    def __init__(self, house: Path) -> None:
        self.settings = Settings(local_dir=house)
        self._app: App = publisher(house)
        self._seen: list[dict[str, Any]] = []
        # Bound before anybody publishes: two threads of one process that do so at once may lose a message.
        self.reports()

    def reports(self) -> list[dict[str, Any]]:
        """The arguments of all reports, in their order."""
        with self._app.connection_for_read() as connection:
            channel = connection.default_channel
            queue(service("mailer"), declared_ahead=False).bind(channel).declare()
            while message := channel.basic_get("mailer", no_ack=True):
                assert message.headers["task"] == "mailer.report_error" and message.headers["ignore_result"]
                self._seen.append(message.payload[1])
        return self._seen


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    """The queue of a house without a worker."""
    return Mailbox(tmp_path / "house")


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A program's logger. It stands alone, so that what pytest listens with hears nothing of it."""
    logger = logging.Logger("shop")
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture(params=["refuses", "says nothing"])
def dead(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A broker that is away: nobody listens, or nobody answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "says nothing":
            listener.listen(64)
        port = listener.getsockname()[1]
        yield Settings(broker_url=f"amqp://shop:x@127.0.0.1:{port}//", redis_url="redis://127.0.0.1:1/0")


def add(log: logging.Logger, settings: Settings, **options: Any) -> ErrorMailHandler:
    handler = ErrorMailHandler(source="shop", settings=settings, **options)
    log.addHandler(handler)
    return handler


def fail(log: logging.Logger, number: int = 0) -> None:
    try:
        raise ValueError(f"fault {number}")
    except ValueError:
        log.exception("it broke")


def spooled(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text())["arguments"] for path in sorted(folder.glob("*.json"))]


def test_an_error_is_published_for_the_mailer(mailbox: Mailbox, log: logging.Logger) -> None:
    add(log, mailbox.settings)
    fail(log)
    log.warning("no error")
    log.error("another")
    eventually(lambda: len(mailbox.reports()) == 2)
    first, second = mailbox.reports()
    assert first["subject"] == "[shop] ValueError: fault 0" and "Traceback" in first["message"]
    assert second["subject"] == "[shop] another"


def test_four_lines_of_configuration_and_a_program_that_ends_at_once(mailbox: Mailbox) -> None:
    # Given a program that knows nothing but its logging configuration
    program = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "handlers": {"mail": {"class": "shared.error_mail.ErrorMailHandler", "level": "ERROR"}},
    "root": {"handlers": ["mail"]},
})
logging.getLogger("anything").error("the last words of %s", "a program")
"""
    # When it ends with its error
    environ = {**os.environ, "LOCAL_DIR": str(mailbox.settings.local_dir)}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
    # Then the error is there
    assert mailbox.reports()[0]["subject"].endswith("the last words of a program")


def test_a_caller_is_not_held_while_the_broker_is_away(dead: Settings, log: logging.Logger, tmp_path: Path) -> None:
    # Given a broker that is away
    add(log, dead, spool=tmp_path / "spool")
    fail(log)
    # When a program has errors
    seconds = []
    for number in range(200):
        start = time.perf_counter()
        fail(log, number)
        seconds.append(time.perf_counter() - start)
    # Then each of them is told to it at once
    assert statistics.quantiles(seconds, n=20)[-1] < HELD


def test_what_no_broker_takes_is_kept_until_one_does(
    dead: Settings, mailbox: Mailbox, log: logging.Logger, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    # Given a program whose broker was away all its life
    handler = add(log, dead, spool=spool)
    for number in range(20):
        fail(log, number)
    log.removeHandler(handler)
    handler.close()
    assert len(spooled(spool)) == 20 and handler.dropped == 0
    # When the next one finds a broker, and has an error
    add(log, mailbox.settings, spool=spool)
    fail(log, 20)
    # Then all of them arrive, with the time when they happened
    eventually(lambda: len(mailbox.reports()) == 21)
    told = {report["subject"]: report["occurred_at"] for report in mailbox.reports()}
    assert len(told) == 21
    assert told["[shop] ValueError: fault 0"] < told["[shop] ValueError: fault 20"]
    assert spooled(spool) == []


def test_the_spool_is_for_its_owner_alone(dead: Settings, log: logging.Logger, tmp_path: Path) -> None:
    handler = add(log, dead, spool=tmp_path / "spool")
    fail(log)
    handler.close()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "spool").glob("*.json"))


def test_the_spool_does_not_grow_over_its_limit(dead: Settings, log: logging.Logger, tmp_path: Path) -> None:
    # Given a small spool
    handler = add(log, dead, spool=tmp_path / "spool", spool_limit=20_000)
    # When more comes than it holds
    for number in range(100):
        fail(log, number)
    log.removeHandler(handler)
    handler.close()
    # Then it keeps to its limit, and every report is either there or counted
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.json")) <= 20_000
    assert handler.dropped + len(spooled(tmp_path / "spool")) == 100


def test_a_spool_that_cannot_be_written_costs_the_reports_and_no_more(
    dead: Settings, log: logging.Logger, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file")
    handler = add(log, dead, spool=tmp_path / "spool")
    fail(log)
    log.removeHandler(handler)
    handler.close()
    assert handler.dropped == 1


def test_what_was_dropped_is_told_with_a_later_report(mailbox: Mailbox, log: logging.Logger) -> None:
    # Given a handler with hardly any memory
    handler = add(log, mailbox.settings, queue_size=1)
    # When more errors come than it can hold
    for number in range(100):
        fail(log, number)
    eventually(lambda: len(mailbox.reports()) + handler.dropped == 100)
    assert handler.dropped > 0
    fail(log, 100)
    # Then the reports that arrived say how many did not
    eventually(lambda: len(mailbox.reports()) + handler.dropped == 101)
    assert sum(report["dropped"] for report in mailbox.reports()) == handler.dropped


def test_a_report_that_nobody_can_read_does_not_block_the_spool(
    mailbox: Mailbox, log: logging.Logger, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    for number, content in enumerate(
        ["", "{", "[]", "{}", '{"id": "x", "arguments": {"subject": "a\\nb", "message": ""}}']
    ):
        (spool / f"{number}.json").write_text(content)
    handler = add(log, mailbox.settings, spool=spool)
    fail(log)
    eventually(lambda: handler.dropped == 5 and spooled(spool) == [])
    assert len(mailbox.reports()) == 1


def test_what_publishing_logs_is_not_mailed(dead: Settings, tmp_path: Path) -> None:
    # Given the handler on everything that the program and its libraries log
    root = logging.getLogger()
    level = root.level
    handler = ErrorMailHandler(logging.DEBUG, settings=dead, spool=tmp_path / "spool")
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        # When one error comes, whose publishing fails, with all that the broker's client says to it
        logging.getLogger("shop").error("one")
        eventually(lambda: len(spooled(tmp_path / "spool")) == 1)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
    # Then there is one report
    assert len(spooled(tmp_path / "spool")) == 1


def test_an_error_inside_a_report_is_not_a_report(mailbox: Mailbox, log: logging.Logger) -> None:
    class Chatty:
        def __str__(self) -> str:
            log.error("while %s", self)
            return "chatty"

    add(log, mailbox.settings)
    log.error("%s", Chatty())
    fail(log)
    eventually(lambda: len(mailbox.reports()) >= 2)
    assert [report["subject"] for report in mailbox.reports()] == ["[shop] chatty", "[shop] ValueError: fault 0"]


def test_a_record_that_cannot_be_told_raises_nothing(
    mailbox: Mailbox, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    add(log, mailbox.settings)
    record = log.makeRecord("shop", logging.ERROR, "f", 1, "m", (), None)
    record.created = float("inf")
    log.handle(record)


def _in_child(log: logging.Logger, number: int, seen: Event) -> None:
    fail(log, number)
    # It goes on, as a server's child does; then it ends at once, and nothing is tidied up.
    seen.wait(PATIENCE)


@pytest.mark.parametrize("parent_first", [True, False])
def test_every_process_of_a_server_that_forks_reports_its_own(
    mailbox: Mailbox, log: logging.Logger, parent_first: bool
) -> None:
    # Given a server that has configured its logging, and perhaps had an error, before it forks
    add(log, mailbox.settings)
    if parent_first:
        fail(log, 0)
        eventually(lambda: len(mailbox.reports()) == 1)
    # When its children and it itself have errors
    forks = multiprocessing.get_context("fork")
    seen = forks.Event()
    children = [forks.Process(target=_in_child, args=(log, number, seen)) for number in (1, 2, 3)]
    for child in children:
        child.start()
    fail(log, 4)
    # Then each of them arrives once
    expected = {f"[shop] ValueError: fault {number}" for number in ([0] if parent_first else []) + [1, 2, 3, 4]}
    try:
        eventually(lambda: len(mailbox.reports()) >= len(expected))
    finally:
        seen.set()
        for child in children:
            child.join()
    assert sorted(report["subject"] for report in mailbox.reports()) == sorted(expected)


def test_a_guest_leaves_the_celery_of_its_host_alone(
    mailbox: Mailbox, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a program with a Celery of its own, and a broker of its own
    from celery import Celery, current_app

    own = Celery("shop", set_as_current=True)
    variables = {"CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_WORKER_LOGLEVEL"}
    for name in variables:
        monkeypatch.setenv(name, "amqp://shop.invalid//")
    # When an error is reported
    add(log, mailbox.settings)
    fail(log)
    eventually(lambda: len(mailbox.reports()) == 1)
    # Then both are as they were
    assert current_app.main == "shop"
    assert {os.environ[name] for name in variables} == {"amqp://shop.invalid//"}
    own.close()
