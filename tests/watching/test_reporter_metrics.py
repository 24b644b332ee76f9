"""What the reporter says of GitHub and of its reports is what GitHub said, and when they were made."""

import time
from datetime import date
from pathlib import Path

import requests

from shared.app import create_app
from shared.config import Settings
from shared.embedded import worker
from shared.embedded.transport import Transport
from shared.signatures import reporter as contract
from shared.topology import service
from tests.ports import free_port
from tests.serving import embedded
from tests.stand_ins.github import GitHubStandIn
from tests.watching.house import HOST, Metrics

#: Seconds that a task may take.
PATIENCE = 60


def test_the_quota_is_githubs_and_the_reports_age_is_the_reports(tmp_path: Path) -> None:
    # Given a worker that asks a GitHub which allows ten searches a minute; nine are made here
    port = free_port()
    with GitHubStandIn() as github:
        environ = {**embedded(tmp_path, github.url), "STATUS_PORT": str(port), "STATUS_HOST": HOST}

        def metrics() -> Metrics:
            return Metrics.read(requests.get(f"http://{HOST}:{port}/metrics", timeout=10).text)

        def said() -> int:
            """What GitHub has told the worker, told from what it tells us next."""
            question = {"q": "created:>=2026-01-01", "sort": "stars", "order": "desc"}
            answer = requests.get(f"{github.url}/search/repositories", params=question, timeout=10)
            return int(answer.headers["X-RateLimit-Remaining"]) + 1

        Transport.global_state.clear()
        app = create_app(settings=Settings.load(environ), current=False)
        with worker.running(service("reporter"), Settings.load(environ), environ):
            assert "taskhouse_github_quota_left" not in {name for name, _ in metrics().samples}
            # When pages are asked for, one after the other
            for page in (1, 2):
                fetch = contract.fetch_repos(since=date(2026, 11, 13), per_page=100, page=page)
                app.send_task(fetch.task, kwargs=fetch.kwargs, ignore_result=False).get(timeout=PATIENCE)
                # Then what is left is what GitHub says
                assert metrics()("github_quota_left") == said()
            # When a report is made, then its moment is told, by its period
            begun = time.time()
            report = contract.produce_report(period="month")
            app.send_task(report.task, kwargs=report.kwargs, ignore_result=False).get(timeout=PATIENCE)
            made = metrics().all("report_timestamp_seconds", "period")
            assert made.keys() == {"month"}
            assert begun <= made["month"] <= time.time()
        app.close()
