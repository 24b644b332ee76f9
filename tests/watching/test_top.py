"""`celery -A shared.app top`: all services at one look."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from shared.app import create_app
from shared.cli.top import top
from shared.cli.top_view import amount, rate
from shared.config import Settings
from shared.topology import SERVICES
from tests.servers import OwnRedis
from tests.waiting import eventually
from tests.watching.house import QUEUE, House

pytestmark = pytest.mark.containers

COMMAND = [sys.executable, "-m", "celery", "-A", "shared.app", "top"]
LEAVES_SCREEN, SHOWS_CURSOR = "\x1b[?1049l", "\x1b[?25h"


@pytest.fixture
def environ(house: House, redis: OwnRedis) -> dict[str, str]:
    """Of the operator."""
    api = {"BROKER_API_URL": f"http://operator@{house.broker.at(15672)}"}
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "TERM")}
    return {**inherited, **house.broker.user("operator", redis), **api}


def told(environ: dict[str, str]) -> dict[str, Any]:
    """One look, as JSON."""
    done = subprocess.run([*COMMAND, "--once", "--format", "json"], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def of(overview: dict[str, Any], name: str = QUEUE) -> dict[str, Any]:
    return next(service for service in overview["services"] if service["name"] == name)


def test_one_look_has_the_counts_of_the_broker_and_fits_80_columns(house: House, environ: dict[str, str]) -> None:
    # Given a dead letter, a message without a service and three that wait, and then a worker that takes one at a time
    house.start(concurrency=1)
    house.send("nothing")
    eventually(lambda: house.dead_letters() == 1)
    house.app.send_task("nobody.does_this")
    for _ in range(4):
        house.send("sleep", 60)
    try:
        # Then they are told, as soon as the broker has counted them
        def counted() -> bool:
            service = of(told(environ))
            return (service["ready"], service["unacked"], service["dead"]) == (2, 2, 1) or (
                service["ready"],
                service["unacked"],
                service["dead"],
            ) == (3, 1, 1)

        eventually(counted, patience=60)
        overview = told(environ)
        service = of(overview)
        assert (service["workers"], service["pool"], service["running"]) == (1, 1, 1)
        assert overview["unrouted"] == 1 and not overview["missing"]
        assert [one["name"] for one in overview["services"]] == [spec.name for spec in SERVICES]
        assert of(overview, "mailer")["workers"] == 0 and of(overview, "mailer")["pool"] is None
        # And a person sees the same, without anything that commands a terminal where there is none
        done = subprocess.run([*COMMAND, "--once"], env=environ, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= 80 and "\x1b" not in done.stdout
        assert lines[0].endswith("unrouted 1") and lines[1].split()[0] == "service"
        shown = next(line for line in lines if line.startswith(QUEUE)).split()
        assert shown[:6] == [QUEUE, "1", "1", "1", str(service["ready"]), str(service["unacked"])]
        assert shown[-2] == "1"
    finally:
        with house.app.connection_for_write() as connection:
            connection.default_channel.queue_purge("unrouted")


def _own_terminal() -> None:
    # Ctrl-C is for whom the terminal belongs to, also where these tests run in a shell's background, which ignores it.
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A terminal of 80 columns and the command in it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._main, self._other = pty.openpty()
        fcntl.ioctl(self._other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self._other)
        self.said = ""
        self.process = subprocess.Popen(
            [*COMMAND, "--interval", "0.5"],
            env={**environ, "TERM": "xterm-256color"},
            stdin=self._other,
            stdout=self._other,
            stderr=self._other,
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.set_blocking(self._main, False)

    def until(self, condition: Callable[[str], bool]) -> None:
        """Read until the condition holds of all that was said."""

        def holds() -> bool:
            self.read()
            assert self.process.poll() is None, self.said
            return condition(self.said)

        eventually(holds)

    def read(self) -> None:
        try:
            while data := os.read(self._main, 65536):
                self.said += data.decode()
        except BlockingIOError:
            pass

    def press(self, key: str) -> int:
        """Press a key that ends it; gives its exit status."""
        os.write(self._main, key.encode())
        status = self.process.wait(20)
        self.read()
        return status

    @property
    def after(self) -> list[Any]:
        return termios.tcgetattr(self._other)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)
        os.close(self._other)


@pytest.fixture
def open_terminal() -> Iterator[Callable[[dict[str, str]], Terminal]]:
    opened: list[Terminal] = []

    def make(environ: dict[str, str]) -> Terminal:
        opened.append(Terminal(environ))
        return opened[-1]

    yield make
    for terminal in opened:
        terminal.close()


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "ctrl-c"])
def test_on_a_terminal_it_is_live_and_leaves_it_as_it_was(
    environ: dict[str, str], open_terminal: Any, house: House, key: str
) -> None:
    # Given the command on a terminal
    terminal = open_terminal(environ)
    terminal.until(lambda said: said.count(f"{QUEUE}") >= 2 and "q quits" in said)
    # Then it is in colour: of a service without a worker at least
    assert re.search(r"\x1b\[1;31m", terminal.said)
    # When a message comes, then it is shown without being asked
    house.send("now")
    terminal.until(lambda said: re.search(rf"{QUEUE}\x1b\[0m[^\n]*\x1b\[1;31m +1\x1b\[0m", said) is not None)
    # When the key is pressed, then it ends, and the terminal is as before
    assert terminal.press(key) == 0
    assert LEAVES_SCREEN in terminal.said and SHOWS_CURSOR in terminal.said
    assert terminal.after == terminal.before


def test_no_color_is_respected(environ: dict[str, str], open_terminal: Any) -> None:
    terminal = open_terminal({**environ, "NO_COLOR": "1"})
    terminal.until(lambda said: "q quits" in said)
    assert terminal.press("q") == 0
    assert not re.search(r"\x1b\[[0-9;]*3[1-7]m", terminal.said)


def test_an_api_that_is_away_or_refuses_is_told(environ: dict[str, str], redis: OwnRedis, house: House) -> None:
    for api, why in (
        ("http://operator@127.0.0.1:1", "refused"),
        (f"http://gateway@{house.broker.at(15672)}", "Unauthorized"),
    ):
        done = subprocess.run(
            [*COMMAND, "--once"], env={**environ, "BROKER_API_URL": api}, capture_output=True, text=True
        )
        assert done.returncode == 3 and not done.stdout
        assert why in done.stderr and "BROKER_API_URL" in done.stderr and "Traceback" not in done.stderr
    # And where the broker is another one
    settings = Settings.load({"BROKER_URL": redis.url, "REDIS_URL": redis.url})
    app = create_app(settings=settings, current=False)
    refused = CliRunner().invoke(top, ["--once"], obj=SimpleNamespace(app=app))
    assert refused.exit_code == 2 and "BROKER_URL names none" in refused.stderr


def test_the_api_is_looked_for_beside_the_broker() -> None:
    from shared.broker_api import urls

    plain = {"BROKER_URL": "amqp://operator@rabbitmq:5672//", "REDIS_URL": "redis://r", "BROKER_PASSWORD": "p/w"}
    settings = Settings.load({**plain, "BROKER_FAILOVER": "rabbitmq-2"})
    assert urls(settings) == ("http://operator:p%2Fw@rabbitmq:15672", "http://operator:p%2Fw@rabbitmq-2:15672")
    secure = Settings.load({**plain, "BROKER_URL": "amqps://operator@rabbitmq//"})
    assert urls(secure) == ("https://operator:p%2Fw@rabbitmq:15671",)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (9999, "9999"), (12_345, "12k"), (10_000_000, "10M"), (2 * 10**10, "20G")]
)
def test_an_amount_is_short(count: int, shown: str) -> None:
    assert amount(count) == shown


def test_a_rate_is_short() -> None:
    assert [rate(value) for value in (0.0, 0.25, 99.94, 1234.5)] == ["0", "0.2", "99.9", "1234"]
