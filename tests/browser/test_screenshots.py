"""The README's pictures of the page, made by the page itself: `make screenshots` keeps them in docs/images."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import LARGEST, Served

pytestmark = pytest.mark.browser

PICTURES: dict[str, dict[str, Any]] = {
    "page-light": {"viewport": {"width": 900, "height": 1180}, "color_scheme": "light"},
    "page-dark": {"viewport": {"width": 900, "height": 1180}, "color_scheme": "dark"},
    "page-phone": {"viewport": {"width": 360, "height": 1180}, "color_scheme": "light"},
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_page_has_its_picture_taken(here: Served, visit: Callable[..., Page], album: Path, name: str) -> None:
    # Given a page with a report, and another one on its way
    page = visit(here.url, timezone_id="UTC", locale="en", reduced_motion="reduce", **PICTURES[name])
    status = page.get_by_role("status").first
    page.get_by_role("button", name="Generate report").click()
    expect(status).to_contain_text("Done")
    for slow in (4, 5):
        here.github.fault("slow", page=slow, seconds=3)
    page.get_by_role("radio", name={"page-light": "a month", "page-dark": "a day"}.get(name, "a week")).check()
    page.get_by_role("radio", name="topic").check()
    page.get_by_role("button", name="Generate report").click()
    expect(status).to_contain_text("3 of 5 pages fetched")
    # When its picture is taken
    picture = page.screenshot(path=album / f"{name}.png")
    # Then it is one, as wide as the page, and small
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height) == tuple(PICTURES[name]["viewport"].values())
    assert len(picture) < LARGEST
    expect(status).to_contain_text("Done", timeout=30_000)
