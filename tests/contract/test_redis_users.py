"""Redis' users, in a Redis that runs what the setup writes: each does its own work, and nothing else."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery.app.task import Context
from redis import Redis
from redis.exceptions import ConnectionError, NoPermissionError

from services.mailer.ledger import Claim
from services.mailer.ledger_redis import RedisLedger
from services.mailer.storm import Limits, Report
from services.mailer.storm_redis import RedisStorm
from shared import setup
from shared.app import App, create_app
from shared.config import Settings
from shared.dead_letters.replay import Records
from shared.render import redis_users
from shared.results import progress
from shared.topology import PUBLISHERS, SERVICES
from tests.e2e.test_cluster import until
from tests.missing import missing
from tests.ports import free_port

WORKERS = [spec.name for spec in SERVICES]
CLIENTS = [user.name for user in redis_users.users()]
#: A key of each owner, and of nobody.
PRIVATE = {
    **{name: f"{name}:secret" for name in WORKERS},
    "beat": "redbeat:secret",
    "operator": "dead-letter:secret",
    "nobody": "secret",
}


class Server:
    """Redis with the file that the setup writes."""

    def __init__(self, secrets: Path, port: int) -> None:
        self._secrets = secrets
        self.port = port

    def settings(self, user: str) -> Settings:
        """Of a process that logs in as `user`."""
        return Settings.load(
            {
                "BROKER_URL": "amqp://127.0.0.1:1//",
                "REDIS_URL": f"redis://{user}@127.0.0.1:{self.port}/0",
                "REDIS_PASSWORD_FILE": str(self._secrets / user / "redis_password"),
            }
        )

    def client(self, user: str) -> Redis:
        """Logged in as `user`."""
        return Redis.from_url(self.settings(user).redis_location())

    def app(self, user: str) -> App:
        """The app of a service's worker, or of a publisher."""
        return create_app(user if user in WORKERS else None, settings=self.settings(user), current=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        missing("redis-server is not installed: apt-get install redis-server")
    folder = tmp_path_factory.mktemp("redis")
    setup.prepare(folder / "secrets")
    port = free_port()
    # All but the folder, which is the container's.
    config = folder / "redis.conf"
    config.write_text((folder / "secrets" / "redis" / "redis.conf").read_text().replace("dir /data", f"dir {folder}"))
    options = ["--port", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(["redis-server", str(config), *options], stdout=subprocess.DEVNULL)
    try:
        until("Redis answers", lambda: _answers(port))
        yield Server(folder / "secrets", port)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with suppress(ConnectionError):
        return bool(Redis(port=port, username="health", password="any").ping())
    return False


# --- Each does its own work -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [*WORKERS, "operator", *(spec.name for spec in PUBLISHERS)])
def test_results_are_stored_counted_told_and_read(server: Server, user: str) -> None:
    # Given the result store of somebody who publishes and answers
    backend = server.app(user).backend
    task = f"task-of-{user}"
    # When a task is handed in, tells how far it is, and is done
    backend.store_submitted(task)
    backend.withdraw_submitted(task)
    progress.part_done(backend, task, "fetch", "1", 5)
    assert backend.get_task_meta(task)["result"] == {"stage": "fetch", "done": 1, "total": 5}
    backend.result_consumer.start(task)
    request = Context(id=task, root_id="first", group="some")
    backend.store_result(task, 3, "SUCCESS", request=request)
    backend.result_consumer.drain_events(timeout=1)
    # Then it is known, its canvas and its group are found by the operator, and a chord can be counted
    found = server.app("operator").backend
    assert task in found.family("first") and found.first_of("some") == "first"
    assert backend.get_task_meta(task, cache=False)["result"] == 3
    group = f"group-of-{user}"
    backend.set_chord_size(group, 2)
    counted = backend._chord_part_return_script
    assert counted is not None and backend.client.get(backend.get_key_for_group(group, ".s")) == b"2"
    backend.client.zadd(backend.get_key_for_group(group, ".j"), {"part": 1})
    backend.client.incr(backend.get_key_for_group(group, ".t"))
    backend.forget(task)


def test_a_chord_is_counted_to_its_end_by_celerys_own_script(server: Server) -> None:
    # Given a chord of one part, and a worker that runs it
    app = server.app("calculator")
    from celery.app.task import Context

    request = Context(id="part", group="whole", chord={"task": "calculator.add", "options": {}}, group_index=0)
    app.backend.set_chord_size("whole", 2)
    # When the part is done
    app.backend.on_chord_part_return(request, "SUCCESS", 1)
    # Then it is counted
    assert app.backend.client.zcard(app.backend.get_key_for_group("whole", ".j")) == 1


def test_the_mailer_keeps_its_ledger_and_counts_a_storm(server: Server) -> None:
    ledger = RedisLedger(server.client("mailer"))
    claim = Claim(owner="me", event="e", lease=10, park=True, fresh=False)
    assert ledger.claim(["mail:a"], claim)[0].state == "claimed"
    ledger.begin(["mail:a"], claim)
    ledger.park(["mail:a"], claim)
    assert ledger.forget_parked("mail:") == 1
    storm = RedisStorm(server.client("mailer"))
    assert storm.admit(Report("event", "fingerprint", "subject", 1.0), Limits(60, 20), 1.0)
    storm.hold("1h", [])
    assert storm.take("1h", "event") == []
    storm.done("1h", "event")


@pytest.mark.parametrize("user", ["beat", "operator"])
def test_the_schedule_is_kept_and_changed(server: Server, user: str) -> None:
    from redbeat import RedBeatSchedulerEntry
    from redbeat.schedulers import ensure_conf, get_redis

    app = server.app(user)
    ensure_conf(app)
    entry = RedBeatSchedulerEntry(f"{user}@", "calculator.add", 60, app=app)
    entry.save()
    assert RedBeatSchedulerEntry.from_key(entry.key, app=app).task == "calculator.add"
    assert entry.key.encode() in {key.encode() for key in get_redis(app).zrange("redbeat::schedule", 0, -1)}
    with get_redis(app).lock("redbeat::lock", timeout=5) as lock:
        assert lock.extend(5)
    entry.delete()


def test_the_operator_keeps_records_of_replays_and_flower_reads_results(server: Server) -> None:
    records = Records(server.client("operator"))
    assert records.begin("letter") is None
    records.complete("letter")
    records.forget("letter")
    server.app("calculator").backend.store_result("seen", 3, "SUCCESS")
    assert server.app("flower").AsyncResult("seen").result == 3


# --- And nothing else -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", CLIENTS)
def test_nobody_reads_or_writes_anothers_keys(server: Server, user: str) -> None:
    client = server.client(user)
    attempts: list[Callable[[str], object]] = [
        client.get,
        lambda key: client.set(key, 1),
        client.delete,
        client.dump,
        lambda key: client.eval("return redis.call('GET', KEYS[1])", 1, key),
        lambda key: client.rename(key, key + "2"),
    ]
    for owner, key in PRIVATE.items():
        for attempt in attempts if owner != user else []:
            # The operator changes beat's schedule.
            if (owner, user) != ("beat", "operator"):
                with pytest.raises(NoPermissionError):
                    attempt(key)


@pytest.mark.parametrize(
    "command",
    [
        "KEYS *",
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "SCRIPT FLUSH",
        "SCRIPT KILL",
        "FUNCTION FLUSH",
        "ACL LIST",
        "ACL SETUSER me on nopass ~* +@all",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "MONITOR",
        "SHUTDOWN",
        "REPLICAOF NO ONE",
        "PSYNC ? -1",
        "RANDOMKEY",
        "DBSIZE",
        "SWAPDB 0 1",
        "SAVE",
        "MODULE LIST",
        "PUBSUB CHANNELS",
        "SUBSCRIBE others",
        "PSUBSCRIBE *",
        "PUBLISH others word",
    ],
)
def test_nobody_may_do_what_harms_or_spies_on_all(server: Server, command: str) -> None:
    for user in CLIENTS:
        with pytest.raises(NoPermissionError):
            server.client(user).execute_command(*command.split())


def test_only_who_must_sees_names_of_keys(server: Server) -> None:
    for user in CLIENTS:
        if user == "mailer":
            assert server.client(user).scan()
        else:
            with pytest.raises(NoPermissionError):
                server.client(user).scan()


def test_who_reads_cannot_write(server: Server) -> None:
    with pytest.raises(NoPermissionError):
        server.client("flower").set("celery-task-meta-x", 1)


def test_who_asks_for_health_may_do_no_more(server: Server) -> None:
    health = Redis(port=server.port, username="health", password="any")
    assert health.ping()
    for command in ("GET x", "INFO", "SET x 1"):
        with pytest.raises(NoPermissionError):
            health.execute_command(*command.split())


def test_a_copier_may_copy_and_no_more() -> None:
    line = redis_users.RedisUser("replication", commands="+psync +replconf +ping").line("x")
    assert line.endswith(" resetkeys resetchannels -@all +psync +replconf +ping")


def test_a_service_that_is_added_has_keys_of_its_own_alone() -> None:
    # Given a service more
    from shared.spec import ServiceSpec

    (user,) = [one for one in redis_users.users((*SERVICES, ServiceSpec("painter", "paints"))) if one.name == "painter"]
    # Then nobody needs to write down its rights
    assert user.keys == ("celery-task-meta-", "celery-taskset-meta-", "painter:")
    assert "+scan" not in user.commands
