"""The same scenario in each of Celery's pools: a canvas, a scope, a retry, a failure."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from celery import _state, chain, chord, group

from shared.app import App, create_app
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.embedded.worker import running
from shared.scope import scope
from shared.signatures import calculator, scoped
from shared.spec import Pool
from shared.topology import service

PATIENCE = 30


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """A publisher without a server."""
    kept, default = _state._tls.current_app, _state.default_app
    Transport.global_state.clear()
    app = create_app(settings=Settings(local_dir=tmp_path / "local"))
    yield app
    app.close()
    _state._tls.current_app = kept
    _state.set_default_app(default)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_scenario_in_each_pool(app: App, pool: Pool) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    environ |= {"LOCAL_DIR": str(app.settings.local_dir), "TASK_LOG_DIR": str(app.settings.local_dir / "logs")}
    with (
        running(service("calculator"), app.settings, environ, pool),
        running(service("scoped"), app.settings, environ, pool),
    ):
        # When canvases, a retry and a failure run, and calls in two scopes at once
        total = chord([calculator.multiply(n, n) for n in range(5)], calculator.total.s()).delay()
        apart = calculator.count_down(3).delay()
        unsteady = calculator.unsteady(1).delay()
        failed = calculator.add_days(3_000_000).delay()
        shown = {}
        for locale in ("fr", "ja"):
            with scope(locale=locale):
                shown[locale] = [scoped.show(2).delay() for _ in range(5)]
        # Then each answers as it does in every other pool
        assert total.get(timeout=PATIENCE) == 30
        assert apart.get(timeout=PATIENCE) == 6
        assert unsteady.get(timeout=PATIENCE) == 2
        with pytest.raises(Exception, match="no day lies"):
            failed.get(timeout=PATIENCE)
        for locale, calls in shown.items():
            assert [call.get(timeout=PATIENCE) for call in calls] == [{"locale": locale}] * 5
        # And each task has its log
        log = (app.settings.local_dir / "logs" / "calculator.unsteady.log").read_text()
        assert "attempt=1 retried: " in log and "attempt=2 succeeded in " in log


def test_many_chords_that_end_at_once_all_end(app: App) -> None:
    # Given a worker whose threads join chords in one process
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    environ |= {"LOCAL_DIR": str(app.settings.local_dir)}
    wide = replace(service("calculator"), concurrency=(12, 12))
    with running(wide, app.settings, environ):
        # When many end at about the same time
        calls = [chord([calculator.add(n, k) for k in range(3)], calculator.total.s()).delay() for n in range(120)]
        # Then each has its result
        assert [call.get(timeout=2 * PATIENCE) for call in calls] == [3 * n + 3 for n in range(120)]


def test_a_chord_waits_for_all_parts_of_a_group_in_its_header(app: App) -> None:
    # Given a worker with one thread, which could not go on if a chord were joined too soon
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    environ |= {"LOCAL_DIR": str(app.settings.local_dir)}
    with running(service("calculator"), app.settings, environ, "solo"):
        # When two parts of a header are done, which are one result to the chord, and the third has not begun
        two = chain(calculator.add.si(1, 0), group(calculator.add.si(1, 1), calculator.add.si(1, 2)))
        late = chain(*(calculator.add.si(2, n) for n in range(5)))
        # Then it is joined when that is done too
        assert chord([two, late], calculator.add.si(40, 2)).delay().get(timeout=PATIENCE) == 42
