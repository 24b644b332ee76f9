"""Flower in a real browser: workers, tasks, queues; `make screenshots` keeps its picture in docs/images."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from shared.topology import SERVICES
from tests.browser.conftest import LARGEST
from tests.e2e.houses import ComposeHouse, report

pytestmark = [pytest.mark.browser, pytest.mark.containers]

VIEWPORT = {"width": 1000, "height": 680}
#: Milliseconds. Its table asks for news each few seconds.
PATIENCE = 30_000


def test_flower_shows_workers_and_tasks(compose: ComposeHouse, visit: Callable[..., Page], album: Path) -> None:
    # Given a cluster that has made a report, and answered a ping
    report(compose, "--period", "week", "--refresh")
    assert compose.celery("ping").returncode == 0
    # When somebody who knows the password opens Flower
    user = {"username": "admin", "password": compose.passwords()["flower"]}
    url = f"http://127.0.0.1:{compose.ports['FLOWER_PORT']}"
    page = visit(f"{url}/workers", http_credentials=user, viewport=VIEWPORT, color_scheme="light", timezone_id="UTC")
    # Then each service's worker is a line, and is online
    for spec in SERVICES:
        line = page.get_by_role("row").filter(has_text=f"{spec.name}@").filter(has_text="Online")
        expect(line.first).to_be_visible(timeout=PATIENCE)
    # And its picture is one, as wide as the page, and small
    picture = page.screenshot(path=album / "flower.png")
    assert struct.unpack(">II", picture[16:24]) == tuple(VIEWPORT.values())
    assert len(picture) < LARGEST
    # And the tasks of the report are there, with their states
    page.get_by_role("link", name="Tasks", exact=True).click()
    task = page.get_by_role("row").filter(has_text="reporter.build_report").filter(has_text="SUCCESS")
    expect(task.first).to_be_visible(timeout=PATIENCE)
    # And the queues
    page.get_by_role("link", name="Broker", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="reporter.dead")).to_be_visible(timeout=PATIENCE)
    # And the way to the other pages
    expect(page.get_by_role("link", name="Gateway")).to_be_visible()
    expect(page.get_by_role("link", name="Grafana")).to_be_visible()
