"""Counting that is bounded, exact over processes that come and go, and free where nobody asked for it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.settings import GatewaySettings
from shared.app import App
from shared.metrics import declared, kinds
from shared.metrics.exposition import Exposition
from shared.topology import SERVICES
from tests.ports import free_port
from tests.serving import serving

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    """Of a process without children."""
    told = Exposition(forks=False)
    yield told
    told.close()


def samples(text: str | bytes) -> dict[str, float]:
    """What a scrape says of ours: `name{labels}` and value."""
    text = text.decode() if isinstance(text, bytes) else text
    return {
        f"{one.name.removeprefix('taskhouse_')}{json.dumps(one.labels, sort_keys=True)}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name.startswith("taskhouse_")
    }


def test_the_page_names_every_metric_and_no_other() -> None:
    # Given the table of the page
    rows = re.findall(r"^\| `(taskhouse_\w+)` \| (\w+) \|(.*?)\|", PAGE, flags=re.MULTILINE)
    # Then it is what the code declares, name by name
    shown = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert shown == {(one.name, one.kind.lower(), one.labels) for one in declared.METRICS}


def test_the_buckets_reach_as_far_as_what_they_measure() -> None:
    longest = max(spec.time_limit for spec in SERVICES)
    assert declared.RUN_BUCKETS[-1] >= longest
    assert list(declared.RUN_BUCKETS) == sorted(declared.RUN_BUCKETS)
    assert list(declared.WAIT_BUCKETS) == sorted(declared.WAIT_BUCKETS)


def test_a_process_that_does_not_begin_counts_nothing_and_loads_nothing() -> None:
    # Given a worker's app without a status port
    script = (
        "import sys\nfrom shared.app import create_app\nfrom shared.metrics import declared\n"
        "create_app('calculator')\ndeclared.TASKS.inc('a', 'b')\ndeclared.RUN.observe(1, 'a')\n"
        "declared.RUNNING.replace({'a': 1})\nprint('prometheus_client' in sys.modules)"
    )
    # When it counts, then the library is not even there
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_metric_is_shown_when_something_was_counted(exposition: Exposition) -> None:
    assert not samples(exposition.answer().body)
    declared.TASKS.inc("reporter.fetch_repos", "failed")
    declared.TICK.set(7)
    assert samples(exposition.answer().body) == {
        'tasks_total{"outcome": "failed", "task": "reporter.fetch_repos"}': 1,
        "beat_tick_timestamp_seconds{}": 7,
    }


def test_labels_beyond_the_bound_are_counted_together(exposition: Exposition) -> None:
    # Given a metric that has as many labels as it may
    for number in range(kinds.MOST_SERIES):
        declared.REDELIVERIES.inc(f"task-{number}")
    # When there are more, then they are one
    for number in range(1000):
        declared.REDELIVERIES.inc(f"other-{number}")
    found = samples(exposition.answer().body)
    assert len(found) == kinds.MOST_SERIES + 1
    assert found['redeliveries_total{"task": "other"}'] == 1000


def test_what_runs_no_more_is_none(exposition: Exposition) -> None:
    declared.RUNNING.replace({"a": 2, "b": 1})
    declared.RUNNING.replace({"b": 3})
    assert samples(exposition.answer().body) == {'tasks_running{"task": "a"}': 0, 'tasks_running{"task": "b"}': 3}


FORKING = """
import os
from shared.metrics import declared
from shared.metrics.exposition import Exposition

told = Exposition(forks=True)
folder = told._files.folder
for number in range({children}):
    if os.fork() == 0:
        for _ in range(10):
            declared.PUBLISHES.inc("mailer", "confirmed")
        declared.GITHUB_QUOTA.set(number)
        os._exit(0)
    os.wait()
    if number == 3:
        # It died before it had written anything.
        (folder / "counter_999999.db").touch()
    told.tidy()
    assert len(list(folder.iterdir())) <= 3, list(folder.iterdir())
declared.PUBLISHES.inc("mailer", "confirmed", by=5)
print(told.answer().body.decode())
told.close()
assert not folder.exists()
"""


def test_the_counts_of_processes_that_are_gone_stay_and_their_files_do_not(tmp_path: Path) -> None:
    # Given the folder of a worker that was killed
    left = tmp_path / "taskhouse-metrics-999999"
    left.mkdir()
    # When twenty processes have counted and ended, one after the other
    done = subprocess.run(
        [sys.executable, "-c", FORKING.format(children=20)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Then nothing that they counted is lost, and of what each has set the last is told
    found = samples(done.stdout)
    assert found['publishes_total{"outcome": "confirmed", "service": "mailer"}'] == 20 * 10 + 5
    assert found["github_quota_left{}"] == 19
    # And what was left is gone
    assert not list(tmp_path.iterdir())


def test_a_publish_is_counted_by_its_outcome(
    exposition: Exposition, make_app: Callable[..., App], cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a broker that is not there
    away = {**cluster, "broker_url": "amqp://nobody@127.0.0.1:1//"}
    app = make_app(**away)
    app.conf.task_publish_retry = False
    # When tasks are published to it, then each is a failure, by the service that it was for
    for name in ("reporter.fetch_repos", "nobody.does_this"):
        with pytest.raises(Exception):  # noqa: B017  # whichever it is
            app.send_task(name, ignore_result=True)
    assert samples(exposition.answer().body) == {
        'publishes_total{"outcome": "not_sent", "service": "reporter"}': 1,
        'publishes_total{"outcome": "not_sent", "service": "other"}': 1,
    }


def test_the_gateway_counts_by_route(tmp_path: Path) -> None:
    # Given a gateway with a status port
    port = free_port()
    settings = GatewaySettings(local_dir=tmp_path / "local", status_port=port, status_host="127.0.0.1")
    with serving(settings) as site:
        # When known and made up paths are asked for, by known and made up methods
        for path in ("/healthz", "/healthz", "/nowhere/a", "/nowhere/b"):
            site.get(path)
        site.request("BREW", "/healthz")
        # Then what counts is the route
        told = samples(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        found = {name: count for name, count in told.items() if name.startswith("http_")}
        # And the gateway's own port says nothing of it
        assert site.get("/metrics").status_code == 404
    assert found == {
        'http_requests_total{"method": "GET", "route": "/healthz", "status": "200"}': 2,
        'http_requests_total{"method": "GET", "route": "other", "status": "404"}': 2,
        'http_requests_total{"method": "other", "route": "other", "status": "415"}': 1,
    }
