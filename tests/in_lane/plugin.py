"""Plays the tests with the fast lane on, for every task of every worker that they start: `make test-fast-lane`.

A worker that a test starts gets a pool that knows the lane, and `tests.in_lane.worker`. What a test plays without a
server is played over RabbitMQ and Redis, for only there is a lane: each folder of the embedded mode becomes a virtual
host with the shipped definitions. Tests that cannot be played so are left out, each with its reason (left_out.py).
"""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import shared.app
from shared.config import Settings
from shared.render.definitions import definitions
from shared.render.permissions import ADMIN
from tests.in_lane.left_out import LEFT_OUT
from tests.in_lane.worker import taken
from tests.servers import OwnBroker, OwnRedis

ROOT = Path(__file__).resolve().parents[2]
#: Pools that have no lane, and the one that takes their place.
OTHERS, INSTEAD = ("prefork", "gevent"), "solo"
#: Whether all is the same but the lane itself, to see whose fault a failure is.
BESIDE = os.environ.get("LANE") == "no"
_start_process: Any = subprocess.Popen.__init__
_create_app = shared.app.create_app


class Everywhere:
    """The servers of this session, and what the lane has taken.

    Attributes:
        tally: the folder in which each worker counts.
        suites: messages that the lane took, by the folder of the tests.
        played: tests that passed, by the same.
    """

    def __init__(self, broker: OwnBroker, redis: OwnRedis, tally: Path) -> None:
        self._broker, self._redis, self.tally = broker, redis, tally
        self._hosts: dict[Path, str] = {}
        self._count = 0
        self.suites: Counter[str] = Counter()
        self.played: Counter[str] = Counter()

    def house(self, folder: str | Path, user: str) -> dict[str, str]:
        """The settings of `user` beside the broker that is a folder of the embedded mode otherwise."""
        name = self._hosts.get(folder := Path(folder).absolute())
        if name is None:
            self._count += 1
            name = self._hosts[folder] = f"house-{self._count}"
            self._define(name)
        known = self._broker.user(user, self._redis)
        # The databases of Redis are 16, and the first is the tests' own.
        database = int(name.rpartition("-")[2]) % 15 + 1
        return known | {
            "BROKER_URL": known["BROKER_URL"].removesuffix("//") + f"/{name}",
            "REDIS_URL": f"redis://127.0.0.1:{self._redis.port}/{database}",
        }

    def _define(self, name: str) -> None:
        shipped = definitions()
        ours = {kind: [{**one, "vhost": name} for one in shipped[kind]] for kind in shipped if kind not in _OF_ALL}
        self._ask("POST", "definitions", json={"vhosts": [{"name": name}], **ours})

    def leave(self, folder: Path) -> None:
        """Take away the houses below a folder that nobody needs any more: each has forty queues."""
        for house in [one for one in self._hosts if one.is_relative_to(folder)]:
            self._ask("DELETE", f"vhosts/{self._hosts.pop(house)}")

    def _ask(self, method: str, path: str, **options: Any) -> None:
        password = self._broker.administrator().split(":")[2].rpartition("@")[0]
        api = f"http://{self._broker.at(15672)}/api/{path}"
        answer = httpx.request(method, api, auth=(ADMIN, password), timeout=60, **options)
        assert answer.is_success, answer.text

    def process(self, command: list[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """How a process is started instead."""
        environ, works = dict(environ), "celery" in command and "worker" in command
        queue = next((one.partition("=")[2] for one in command if works and one.startswith("--queues=")), "operator")
        if environ.get("LOCAL_DIR") and not environ.get("BROKER_URL"):
            user = "gateway" if any("services.gateway" in one for one in command) else queue
            environ |= self.house(environ["LOCAL_DIR"], user)
        if works:
            command = [_in_a_pool_with_a_lane(one) for one in command]
            if BESIDE:
                return command, environ
            environ |= {"CELERY_WORKER_INCLUDE": "tests.in_lane.worker", "LANE_TALLY": str(self.tally)}
            environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environ.get("PYTHONPATH")])])
        return command, environ

    def settings(self, settings: Settings) -> Settings:
        """Those of a publisher without a server, beside the servers."""
        told = self.house(settings.local_dir, "operator")
        password = Path(told["BROKER_PASSWORD_FILE"]).read_text().strip()
        update = {"broker_password": SecretStr(password), "broker_url": told["BROKER_URL"]}
        return settings.model_copy(update=update | {"redis_url": told["REDIS_URL"]})


_OF_ALL = ("vhosts", "users")
_now: Everywhere | None = None


def _in_a_pool_with_a_lane(argument: str) -> str:
    name, _, value = argument.partition("=")
    if name == "--pool" and value in OTHERS:
        return f"{name}={INSTEAD}"
    # These pools do not scale.
    return f"--concurrency={value.partition(',')[0]}" if name == "--autoscale" else argument


def _start(self: Any, args: Any, *more: Any, env: Any = None, **options: Any) -> None:
    if _now is not None and isinstance(args, list | tuple):
        args, env = _now.process([str(one) for one in args], os.environ if env is None else env)
    _start_process(self, args, *more, env=env, **options)


def _create(name: str | None = None, *, settings: Settings | None = None, **options: Any) -> Any:
    settings = settings or Settings.load()
    if _now is not None and name is None and settings.embedded:
        settings = _now.settings(settings)
    return _create_app(name, settings=settings, **options)


# Before any test imports it by its name.
subprocess.Popen.__init__ = _start  # type: ignore[method-assign]
shared.app.create_app = _create


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot be played."""
    out = {item: reason for item in items for pattern, reason in LEFT_OUT.items() if fnmatch(item.nodeid, pattern)}
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]
    _reasons.update(out.values())


@pytest.fixture(scope="session", autouse=True)
def everywhere(
    broker: OwnBroker, redis_server: OwnRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Everywhere]:
    """The lane is on until the session ends, and has taken something in every suite."""
    global _now
    _now = Everywhere(broker, redis_server, tmp_path_factory.mktemp("tally"))
    try:
        yield _now
    finally:
        _now = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Function) -> Iterator[None]:
    """What was of one test alone goes with it."""
    folder = item.funcargs.get("tmp_path")
    yield
    if _now and isinstance(folder, Path):
        _now.leave(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Count what the lane takes during a test."""
    before = taken(_now.tally) if _now else 0
    result = yield
    if _now:
        _now.suites[item.path.parent.name] += taken(_now.tally) - before
        _figures[:] = [_now]
    return result


_figures: list[Everywhere] = []
_reasons: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what passes."""
    if _now and report.when == "call" and report.passed:
        _now.played[Path(report.nodeid.partition("::")[0]).parent.name] += 1


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A suite that never used the lane has shown nothing."""
    unused = [suite for one in _figures for suite in one.played if not one.suites[suite]]
    if exitstatus == 0 and (unused or not _figures):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of it was in the lane."""
    for one in _figures:
        terminalreporter.section("the fast lane, everywhere")
        for suite, count in sorted(one.played.items()):
            said = f"{one.suites[suite]:6} messages" if one.suites[suite] else "NO MESSAGE: it has shown nothing"
            terminalreporter.write_line(f"{suite:12} {count:4} tests passed, the lane took {said}")
        terminalreporter.write_line(f"{sum(one.played.values())} tests, {sum(one.suites.values())} messages")
    for reason, count in _reasons.most_common():
        terminalreporter.write_line(f"left out {count:2}: {reason}")
