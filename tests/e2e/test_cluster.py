"""What only the shipped compose file can show: pools that scale, who sees what, what survives."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from shared.topology import SERVICES
from tests.e2e.houses import GITHUB_TOKEN, ComposeHouse, report

pytestmark = pytest.mark.containers

TIMEOUT = 10


def until(what: str, happened: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition that an outside process brings about."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def test_the_operator_sees_every_service_and_its_pool_at_one_look(compose: ComposeHouse) -> None:
    def services() -> list[dict[str, object]]:
        said = compose.compose("run", "--rm", "-T", "cli", "top", "--once", "--format", "json")
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)["services"]

    # Each worker consumes, and says how large its pool is; RabbitMQ counts consumers every few seconds
    until("every pool is told", lambda: all(one["workers"] and one["pool"] for one in services()))
    assert {str(one["name"]) for one in services()} == {spec.name for spec in SERVICES}


def test_three_scaled_reporters_share_the_work(compose: ComposeHouse) -> None:
    # Given three containers of that pool alone
    up = ("up", "-d", "--wait", "--no-recreate", "--scale")
    assert compose.compose(*up, "reporter=3").returncode == 0
    try:
        assert len(compose.containers("reporter")) == 3
        compose.github.settings(latency=0.3)

        # When six reports are asked for at once
        periods = [("day", "language"), ("week", "language"), ("month", "language")] * 2
        with ThreadPoolExecutor(len(periods)) as operators:
            list(operators.map(lambda one: report(compose, "--period", one[0], "--refresh"), periods))

        # Then each of the three fetched pages
        stats = json.loads(compose.celery("inspect", "stats", "--json").stdout)
        fetched = {
            worker: one["total"].get("reporter.fetch_repos", 0)
            for worker, one in stats.items()
            if worker.startswith("reporter@")
        }
        assert len(fetched) == 3
        assert all(fetched.values()), fetched
    finally:
        compose.compose(*up, "reporter=1")


def test_a_final_failure_becomes_a_dead_letter(compose: ComposeHouse) -> None:
    # Given a GitHub that refuses
    before = compose.messages("reporter.dead")
    compose.github.fault("invalid_422", page=1, times=None)

    # When a report fails of it
    assert compose.celery("report", "--period", "week", "--refresh").returncode == 1

    # Then the fetch is kept in the dead-letter queue
    until("the dead letter is there", lambda: compose.messages("reporter.dead") == before + 1)


def test_a_task_that_no_service_takes_is_kept(compose: ComposeHouse) -> None:
    # When a task is published that belongs to no service
    before = compose.messages("unrouted")
    assert compose.celery("call", "nobody.does_this", "--undeclared").returncode == 0

    # Then it waits where somebody can find it
    until("the message is in `unrouted`", lambda: compose.messages("unrouted") == before + 1)


def test_a_delayed_task_comes_after_its_delay(compose: ComposeHouse) -> None:
    # When a page is asked for with a delay of two seconds, which the broker holds
    asked = time.time()
    arguments = json.dumps({"since": "2026-01-01", "per_page": 1, "page": 1})
    done = compose.celery("call", "reporter.fetch_repos", "--kwargs", arguments, "--countdown", "2")
    assert done.returncode == 0, done.stderr

    # Then it runs, and not before
    until("the page was asked for", compose.github.requests)
    assert compose.github.requests()[0]["started"] >= asked + 2


def test_the_midnight_tick_makes_one_report_though_two_beats_run(compose: ComposeHouse) -> None:
    # Given that there is no report of the day yet, and two beats
    forget = "import shutil; shutil.rmtree('/reports/day', ignore_errors=True)"
    assert compose.compose("exec", "-T", "reporter", "python", "-c", forget).returncode == 0
    up = ("up", "-d", "--wait", "--no-recreate", "--scale")
    assert compose.compose(*up, "beat=2").returncode == 0
    try:
        # When midnight has passed since the last tick (its record is set back a day, as after a night)
        due = (
            "from datetime import timedelta\n"
            "from shared.app import app\n"
            "from redbeat.schedulers import RedBeatSchedulerEntry as Entry, ensure_conf\n"
            "ensure_conf(app)\n"
            "name = next(name for name in app.conf.beat_schedule if name.startswith('reporter.produce_report@'))\n"
            "entry = Entry.from_key(Entry.generate_key(app, name), app=app)\n"
            "entry.reschedule(app.now() - timedelta(days=1))\n"
        )
        done = compose.compose("exec", "-T", "beat", "python", "-c", due)
        assert done.returncode == 0, done.stderr

        # Then the previous day's report is made, once
        until("five pages were asked for", lambda: len(compose.github.requests()) >= 5)
        until("the report is kept", lambda: report(compose, "--period", "day").reused)
        assert sorted(compose.github.pages()) == [1, 2, 3, 4, 5]
    finally:
        compose.compose(*up, "beat=1")


def test_a_restart_of_redis_loses_no_schedule_and_fails_no_task(compose: ComposeHouse) -> None:
    # Given a pool with connections to Redis, and the schedule that beat stored
    for period in ("day", "week", "month"):
        report(compose, "--period", period, "--refresh")
    listed = (
        "from shared.app import app\n"
        "from redbeat.schedulers import ensure_conf, get_redis\n"
        "ensure_conf(app)\n"
        "print(sorted(get_redis(app).zrange(app.redbeat_conf.schedule_key, 0, -1)))\n"
    )
    before = compose.compose("exec", "-T", "beat", "python", "-c", listed).stdout
    assert "reporter.produce_report@" in before

    # When Redis is stopped and started
    assert compose.compose("restart", "--no-deps", "redis").returncode == 0
    until("Redis answers", lambda: compose.compose("exec", "-T", "beat", "python", "-c", listed).returncode == 0)

    # Then it is as it was: what Redis reads from its file, it may also run
    assert compose.compose("exec", "-T", "beat", "python", "-c", listed).stdout == before
    # And the pool goes on, over connections that Redis knows nothing of any more
    for period in ("day", "week", "month"):
        assert report(compose, "--period", period, "--refresh").repositories == 500


def test_a_program_can_wait_for_a_result(compose: ComposeHouse) -> None:
    # When a program outside the workers publishes a task and waits for what it gives
    script = (
        "from shared.app import app\n"
        "from shared.signatures import reporter\n"
        "print(reporter.produce_report(period='week', refresh=True).apply_async().get(timeout=60)['repositories'])"
    )
    done = compose.publisher(script)

    # Then it has it
    assert done.stdout.strip() == "500", done.stderr


def test_the_csv_is_brought_to_the_user(compose: ComposeHouse) -> None:
    # When an operator asks for a report in words
    done = compose.celery("report", "--period", "week")

    # Then the last line is the path of a file in the user's own folder
    path = done.stdout.strip().splitlines()[-1]
    assert path.startswith("reports/") and path.endswith(".csv")
    assert compose.read(path.removeprefix("reports/"))


def test_the_token_of_a_file_is_used_and_shown_nowhere(compose: ComposeHouse) -> None:
    # Given GITHUB_TOKEN_FILE, which names a file of the user's
    # When a report is made
    report(compose, "--period", "week", "--refresh")

    # Then each request bears the token, and the engine and the logs know nothing of it
    assert [record["bearer"] for record in compose.github.requests()] == [True] * 5
    assert GITHUB_TOKEN not in json.dumps(compose.containers("reporter"))
    assert GITHUB_TOKEN not in compose.compose("logs", "reporter").stdout


def test_passwords_are_made_once_and_shown_to_whom_needs_them(compose: ComposeHouse) -> None:
    # Given the passwords of the first start
    first = compose.passwords()
    assert first.keys() == {"flower", "grafana", "rabbitmq"}
    assert len(set(first.values())) == 3
    assert all(len(password) >= 24 for password in first.values())

    # When the one-shot service runs again, as at each start
    assert compose.compose("up", "setup").returncode == 0

    # Then they are the same
    assert compose.passwords() == first


def test_nobody_logs_in_with_a_default(compose: ComposeHouse) -> None:
    # When somebody tries RabbitMQ's well-known user
    url = f"http://127.0.0.1:{compose.ports['RABBITMQ_MANAGEMENT_PORT']}/api/whoami"
    answer = requests.get(url, auth=("guest", "guest"), timeout=TIMEOUT)

    # Then it is refused, and the one that was made is not
    assert answer.status_code == 401
    assert requests.get(url, auth=("admin", compose.passwords()["rabbitmq"]), timeout=TIMEOUT).status_code == 200


def test_containers_have_no_more_than_they_need(compose: ComposeHouse) -> None:
    # Given what the engine says of each container that runs
    services = compose.compose("ps", "--services").stdout.split()
    running: dict[str, list[dict[str, Any]]] = {}
    for one in compose.containers(*services):
        running.setdefault(one["Config"]["Labels"]["com.docker.compose.service"], []).append(one)
    assert {"rabbitmq", "redis", "reporter", "beat", "flower"} <= running.keys()

    for service, containers in running.items():
        for one in containers:
            host = one["HostConfig"]
            # Then it is nobody in particular, cannot write its root, and has no capability
            assert one["Config"]["User"].split(":")[0].isdecimal(), service
            assert one["Config"]["User"].split(":")[0] != "0", service
            assert host["ReadonlyRootfs"] is True, service
            assert host["CapDrop"] == ["ALL"] and not host["CapAdd"], service
            assert "no-new-privileges:true" in host["SecurityOpt"], service
            assert host["Memory"] > 0, service
            # And its published ports are for this machine alone
            published = [port for ports in (host["PortBindings"] or {}).values() for port in ports]
            assert {port["HostIp"] for port in published} <= {"127.0.0.1"}, service


def test_no_secret_can_be_read_off_a_container(compose: ComposeHouse) -> None:
    # Given every password
    owners = ("reporter", "beat", "flower", "gateway")
    read = ("sh", "-c", "cd /run/secrets && cat broker_password && echo && cat redis_password")
    secrets = [secret for owner in owners for secret in compose.compose("exec", "-T", owner, *read).stdout.split()]
    secrets += compose.passwords().values()
    assert len(set(secrets)) == len(secrets) == 2 * len(owners) + 3

    # Then none stands in what the engine tells, in a command line or in a log
    everything = json.dumps(compose.containers(*owners, "rabbitmq", "redis", "setup"))
    everything += compose.compose("top").stdout + compose.compose("logs", "--no-color").stdout
    assert not [secret for secret in secrets if secret in everything]


def test_a_service_cannot_reach_what_is_not_its_own(compose: ComposeHouse) -> None:
    # When the reporter's user writes to the control exchange, or reads another queue
    attempts = {
        "control": "channel.basic_publish(amqp.Message('{}'), exchange='celery.pidbox')",
        "unrouted": "channel.basic_get('unrouted')",
        "foreign key": "channel.basic_publish(amqp.Message('{}'), exchange='tasks', routing_key='painter.paint')",
        "default exchange": "channel.basic_publish(amqp.Message('{}'), exchange='', routing_key='reporter.dead')",
        "new queue": "channel.queue_declare('mine', durable=True, auto_delete=False)",
    }
    for name, attempt in attempts.items():
        script = (
            "import amqp\nfrom services.reporter.app import app\n"
            "connection = app.connection_for_write()\nconnection.connect()\n"
            "channel = connection.default_channel\n"
            f"try:\n    {attempt}\n    channel.basic_qos(0, 1, False)\n"
            "except amqp.AccessRefused:\n    print('ACCESS_REFUSED')\n"
        )
        done = compose.compose("exec", "-T", "reporter", "python", "-c", script)

        # Then the broker refuses
        assert done.stdout.strip() == "ACCESS_REFUSED", (name, done.stdout, done.stderr)
