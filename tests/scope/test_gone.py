"""A scope ends with its task, also where the task's process is killed; what is published in its place still has it."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from celery import _state, chord
from celery.exceptions import TaskRevokedError

from shared.app import create_app
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.embedded.worker import running
from shared.scope import scope
from tests.scope import worker
from tests.scope.conftest import PATIENCE, Telling, telling_spec

FRENCH = {"locale": "fr", "scenario_id": 2}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    """A worker whose tasks run in processes of their own, which can be killed."""
    local: Path = tmp_path_factory.mktemp("prefork") / "local"
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    environ |= {"LOCAL_DIR": str(local), "TELL_SCOPES": "1"}
    kept, default = _state._tls.current_app, _state.default_app
    Transport.global_state.clear()
    settings = Settings.load(environ)
    app = create_app(settings=settings)
    with running(telling_spec(), settings, environ, pool="prefork") as log:
        yield Telling(app, worker.folder(local), log, environ)
    app.close()
    _state._tls.current_app = kept
    _state.set_default_app(default)


def test_what_follows_a_killed_task_has_its_scope_and_the_next_task_does_not(processes: Telling) -> None:
    label = str(uuid4())
    # Given an error callback that was made in no scope
    after = worker.leaf.si(f"{label}-after")
    # When its task, called in a scope, is killed by its time limit
    with scope(**FRENCH):
        worker.sleeping.si(label, 30).on_error(after).apply_async(time_limit=1)
    # Then the task had the scope, and so has what the worker's main process publishes in its place
    assert processes.scope_of(label) == FRENCH
    assert processes.scope_of(f"{label}-after") == FRENCH
    # And tasks that come after it, in every process, have none
    clean = [f"{label}-clean-{number}" for number in range(24)]
    for one in clean:
        worker.leaf.delay(one)
    assert processes.scopes(clean) == {one: {} for one in clean}


def test_a_task_that_its_soft_limit_ends_leaves_nothing(processes: Telling) -> None:
    label = str(uuid4())
    with scope(**FRENCH):
        worker.sleeping.si(label, 30).on_error(worker.leaf.si(f"{label}-after")).apply_async(soft_time_limit=1)
    assert processes.scopes([label, f"{label}-after"]) == {label: FRENCH, f"{label}-after": FRENCH}
    clean = [f"{label}-clean-{number}" for number in range(24)]
    for one in clean:
        worker.leaf.delay(one)
    assert processes.scopes(clean) == {one: {} for one in clean}


def test_a_task_that_is_revoked_while_it_runs_leaves_nothing(processes: Telling) -> None:
    label = str(uuid4())
    # Given a chord, called in a scope, whose error callback was made in none, and one part of it that runs
    body = worker.leaf.si(f"{label}-body").on_error(worker.leaf.si(f"{label}-after"))
    with scope(**FRENCH):
        doomed = worker.sleeping.si(label, 30).set(task_id=label)
        chord([doomed], body).apply_async()
    assert processes.scope_of(label) == FRENCH
    # When that is revoked, and its process ended
    processes.app.control.revoke(label, terminate=True, signal="SIGKILL")
    # Then whoever waits for it is told, and what the worker's main process publishes in its place has its scope
    with pytest.raises(TaskRevokedError):
        processes.app.AsyncResult(label).get(timeout=PATIENCE)
    assert processes.scope_of(f"{label}-after") == FRENCH
    assert not (processes.seen / f"{label}-body").exists()
    # And tasks that come after it, in every process, have none
    clean = [f"{label}-clean-{number}" for number in range(24)]
    for one in clean:
        worker.leaf.delay(one)
    assert processes.scopes(clean) == {one: {} for one in clean}


def test_a_task_that_is_revoked_before_it_runs_leaves_nothing(processes: Telling) -> None:
    label = str(uuid4())
    with scope(**FRENCH):
        # Held until then by the worker, which is told meanwhile
        doomed = worker.leaf.si(label).apply_async(countdown=2)
    doomed.revoke()
    with pytest.raises(TaskRevokedError):
        doomed.get(timeout=PATIENCE)
    worker.leaf.delay(f"{label}-last")
    assert processes.scope_of(f"{label}-last") == {}
    assert not (processes.seen / label).exists()


def test_a_task_that_expired_before_it_ran_leaves_nothing(processes: Telling) -> None:
    label = str(uuid4())
    with scope(**FRENCH):
        worker.leaf.si(label).apply_async(expires=-1)
        last = f"{label}-last"
    worker.leaf.delay(last)
    assert processes.scope_of(last) == {}
    assert not (processes.seen / label).exists()
