"""The page, as its readers use it: in both houses, by keyboard, on a phone, with a key, over a line that breaks."""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, expect

from shared.config import Settings
from shared.embedded import worker
from shared.topology import service
from tests.browser.conftest import INBOX, Served
from tests.ports import free_port
from tests.serving import Site, embedded, finished, gateway, submit, whole_house

pytestmark = pytest.mark.browser

Visit = Callable[..., Page]
#: Milliseconds for a report.
PATIENCE = 60_000
KEY = "a-key-of-the-browser-tests"


def generate(page: Page) -> None:
    """Ask for the report that is chosen, and wait until it is there."""
    page.get_by_role("button", name="Generate report").click()
    expect(page.get_by_role("status").first).to_contain_text("Done", timeout=PATIENCE)


def downloaded(page: Page, name: str = "Download CSV") -> tuple[str, bytes]:
    """Name and content of the file that the link leads to."""
    with page.expect_download() as waiting:
        page.get_by_role("link", name=name).first.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


# --- The whole journey ------------------------------------------------------------------------------------------------


def test_a_report_is_asked_for_followed_read_and_fetched(served: Served, visit: Visit) -> None:
    page = visit("about:blank")
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # Given the page, and a GitHub that takes its time
    served.github.settings(latency=0.5)
    page.goto(served.url)
    expect(page).to_have_title("Hot repositories")

    # When the month's report is asked for, grouped by topic
    page.get_by_role("radio", name="a month", exact=True).check()
    page.get_by_role("radio", name="topic", exact=True).check()
    page.get_by_role("button", name="Generate report").click()

    # Then it can be seen how far it is
    bar = page.get_by_role("progressbar", name="Progress of the report")
    expect(bar).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text(re.compile(r"\d of 5 pages fetched"), timeout=PATIENCE)
    # And that it is done
    expect(page.get_by_role("status").first).to_contain_text("Done", timeout=PATIENCE)
    expect(bar).to_be_hidden()
    expect(page.get_by_role("heading", name="The month before")).to_be_visible()
    expect(page.locator("#summary")).to_contain_text("500 repositories")

    # And the chart has a bar for each language, the largest first, on one scale
    rows = page.get_by_role("table", name="Repositories of each language").get_by_role("row")
    shown = [(row.get_by_role("rowheader").inner_text(), int(row.locator("td").inner_text())) for row in rows.all()[1:]]
    assert len(shown) == 12 and shown == sorted(shown, key=lambda one: -one[1])
    widths = [bar.bounding_box()["width"] for bar in page.locator("#chart i").all()]  # type: ignore[index]
    assert widths[5] / widths[0] == pytest.approx(shown[5][1] / shown[0][1], abs=0.02)
    page.get_by_role("button", name=re.compile("Show all")).click()
    assert sum(int(cell) for cell in page.locator("#chart td").all_inner_texts()) == 500

    # And the file is the report
    name, content = downloaded(page)
    assert re.fullmatch(r"month-topic-grouped-github-hot-repos-\d{4}-\d\d-\d\d\.csv", name)
    lines = list(csv.reader(content.decode().splitlines()))
    assert len({repository for line in lines for repository in line[1:]}) == 500

    # And it is the first of the earlier ones
    earlier = page.locator("#earlier li").first
    expect(earlier).to_contain_text("The month before")
    expect(earlier).to_contain_text("by topic")
    assert downloaded(page, "Download: The month before")[1] == content

    # When something is broken on purpose
    page.get_by_role("button", name="Break something").click()
    # Then the page says so
    expect(page.locator("#broken")).to_contain_text("It broke")

    # And nothing was loaded from elsewhere, and nothing complained but of that
    assert all(url.startswith((served.url, "blob:")) for url in asked if url != "about:blank"), asked
    assert [text for text in complaints if "500 (Internal Server Error)" not in text] == []


def test_the_inbox_is_one_click_away_where_there_is_one(here: Served, visit: Visit, tmp_path: Path) -> None:
    # Given a gateway that was told of a mail catcher, then its inbox is linked
    page = visit(here.url)
    expect(page.get_by_role("link", name="Open the inbox")).to_have_attribute("href", INBOX)
    page.get_by_role("button", name="Break something").click()
    expect(page.locator("#broken")).to_contain_text("on its way to the inbox")
    # And without one there is no link
    with whole_house(tmp_path, here.github.url) as url:
        page = visit(url)
        expect(page.get_by_text("There are none yet.")).to_be_visible()
        expect(page.locator("#inbox")).to_be_hidden()


@pytest.mark.containers
def test_the_report_of_an_error_is_in_the_inbox_one_click_away(cluster_page: Served, visit: Visit) -> None:
    # Given the page of the cluster
    page = visit(cluster_page.url)

    # When something is broken on purpose, and the reader looks into the inbox
    page.get_by_role("button", name="Break something").click()
    expect(page.locator("#broken")).to_contain_text("on its way to the inbox")
    page.goto(str(page.get_by_role("link", name="Open the inbox").get_attribute("href")))

    # Then the report is there a moment later
    expect(page.get_by_text("ZeroDivisionError").first).to_be_visible(timeout=PATIENCE)


# --- What does not go well --------------------------------------------------------------------------------------------


def test_a_report_that_fails_says_why_and_another_can_be_asked_for(here: Served, visit: Visit) -> None:
    page = visit(here.url)
    generate(page)
    # Given a GitHub that refuses the search, and a report that is not there
    here.github.fault("invalid_422", times=None)
    page.get_by_role("radio", name="a day", exact=True).check()
    page.get_by_role("radio", name="topic", exact=True).check()
    page.get_by_role("button", name="Generate report").click()
    # Then the page says what the task said
    expect(page.locator("#status.failed")).to_contain_text("GitHub", timeout=PATIENCE)
    expect(page.get_by_role("progressbar")).to_be_hidden()
    # And when GitHub answers again, so does the page
    here.github.reset()
    generate(page)
    expect(page.locator("#status.failed")).to_have_count(0)


def test_a_report_is_followed_over_a_restart_of_the_gateway(here: Served, visit: Visit, tmp_path: Path) -> None:
    # Given a report on its way
    here.github.fault("slow", page=5, seconds=4)
    environ, port = embedded(tmp_path, here.github.url), free_port()
    with worker.running(service("reporter"), Settings.load(environ), environ):
        with gateway(environ, port) as served:
            page = visit(served.url)
            page.get_by_role("button", name="Generate report").click()
            expect(page.get_by_role("status").first).to_contain_text("4 of 5 pages fetched", timeout=PATIENCE)
        # When the gateway ends, which does not wait for its readers, then the page says so
        expect(page.get_by_role("status").first).to_contain_text("The connection is lost")
        # And when it is there again, the report is followed to its end
        with gateway(environ, port):
            expect(page.get_by_role("status").first).to_contain_text("Done", timeout=PATIENCE)


def test_a_report_is_followed_after_the_page_was_loaded_anew(here: Served, visit: Visit) -> None:
    # Given a report on its way
    here.github.settings(latency=2)
    page = visit(here.url)
    page.get_by_role("radio", name="a day", exact=True).check()
    page.get_by_role("radio", name="language", exact=True).check()
    page.get_by_role("button", name="Generate report").click()
    expect(page.get_by_role("status").first).to_contain_text("pages fetched", timeout=PATIENCE)
    # When the reader loads the page anew
    page.reload()
    # Then it goes on where it was
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("Done", timeout=PATIENCE)
    expect(page.get_by_role("heading", name="The day before")).to_be_visible()


def test_one_report_is_asked_for_at_a_time(here: Served, visit: Visit) -> None:
    here.github.settings(latency=1)
    page = visit(here.url)
    submitted: list[Request] = []
    page.on("request", lambda request: submitted.append(request) if request.method == "POST" else None)
    # Given a report on its way
    page.get_by_role("radio", name="a month", exact=True).check()
    button = page.get_by_role("button", name="Generate report")
    button.click()
    # When an impatient reader goes on clicking
    button.click(force=True)
    button.click(force=True)
    # Then that changes nothing
    expect(page.get_by_role("status").first).to_contain_text("Done", timeout=PATIENCE)
    assert len(submitted) == 1


# --- With a key -------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(here: Served, tmp_path: Path) -> Iterator[Served]:
    """A house that wants a key."""
    with whole_house(tmp_path, here.github.url, GATEWAY_API_KEYS=KEY) as url:
        yield Served(url, here.github, lambda: None)


def test_a_key_is_asked_for_and_kept_until_the_tab_is_closed(locked: Served, visit: Visit) -> None:
    # Given a page that wants a key
    page = visit(locked.url)
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog).to_be_visible()
    # When the reader gives a wrong one, it is asked for again; Escape is no way around
    dialog.get_by_label("Key").fill("a-key-that-nobody-has")
    dialog.get_by_role("button", name="Continue").click()
    expect(dialog).to_contain_text("not valid")
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    # When the reader gives the right one
    dialog.get_by_label("Key").fill(KEY)
    page.keyboard.press("Enter")
    # Then all works: a report, its progress, its file
    expect(dialog).to_be_hidden()
    generate(page)
    name, content = downloaded(page)
    assert name.endswith(".csv") and content
    # And the key is still there after the page was loaded anew, in this tab alone
    page.reload()
    expect(page.locator("#earlier li")).to_have_count(1)
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert KEY not in page.url
    # And the page of the API shows the document with it
    page.goto(f"{locked.url}/docs")
    expect(page.get_by_role("heading", name="taskhouse")).to_be_visible()


# --- For every reader -------------------------------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(here: Served, visit: Visit) -> None:
    page = visit(here.url)
    expect(page.locator("#earlier")).to_be_attached()
    press = page.keyboard.press
    focused = "document.activeElement.textContent.trim() || document.activeElement.value"

    # When a reader goes through the page with the tabulator
    press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    press("Tab")
    press("Tab")
    # Then the choices are there, and the arrows change them
    assert page.evaluate("document.activeElement.name") == "period"
    press("ArrowRight")
    assert page.get_by_role("radio", name="a month", exact=True).is_checked()
    press("Tab")
    press("ArrowRight")
    assert page.get_by_role("radio", name="topic", exact=True).is_checked()
    press("Tab")
    assert page.evaluate(focused) == "Generate report"
    # And where the focus is can be seen
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Done", timeout=PATIENCE)
    # And the focus stays where it was
    assert page.evaluate(focused) == "Generate report"
    press("Tab")
    assert page.evaluate(focused) == "Download CSV"
    # And choosing an earlier report leads to it
    page.get_by_role("button", name=re.compile("^Languages:")).first.focus()
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "result-title"
    page.get_by_role("button", name="Break something").focus()
    press("Space")
    expect(page.locator("#broken")).to_contain_text("It broke")


def test_everything_has_a_name_that_can_be_read_aloud(here: Served, visit: Visit) -> None:
    page = visit(here.url)
    generate(page)
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, a, input, progress, table')]
             .filter((one) => one.checkVisibility() && !(one.textContent.trim() || one.ariaLabel || one.labels?.length))
             .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    assert page.locator("html").get_attribute("lang") == "en"
    # And what changes is told
    assert page.locator("[role=status]").count() == 2


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
def test_it_fits_every_width(here: Served, visit: Visit, width: int) -> None:
    page = visit(here.url, viewport={"width": width, "height": 740})
    generate(page)
    # Then nothing sticks out to the side
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        f"""[...document.querySelectorAll('main *')].filter((one) => one.checkVisibility())
             .filter((one) => one.getBoundingClientRect().right > {width} + 0.5).map((one) => one.outerHTML)"""
    )
    assert outside == []
    # And what is pressed is large enough for a finger: WCAG 2.2, 2.5.8
    small = page.evaluate(
        """[...document.querySelectorAll('button, .button, .choices label')].filter((one) => one.checkVisibility())
             .filter((one) => one.getBoundingClientRect().height < 24).map((one) => one.outerHTML)"""
    )
    assert small == []


#: The contrast of each text with what is behind it. Source: WCAG 2.2, 1.4.3.
CONTRASTS = """
() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')]
    .filter((one) => one.checkVisibility() && [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((one) => {
      const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 80)];
    });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(here: Served, visit: Visit, scheme: str) -> None:
    page = visit(here.url, color_scheme=scheme, reduced_motion="reduce")
    generate(page)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 30
    assert [one for one in contrasts if one[0] < 4.5] == []
    # And dark is dark
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in re.findall(r"\d+", ground)[:3])
    assert (brightness < 150) == (scheme == "dark")


def test_nothing_moves_for_who_wants_it_still(here: Served, visit: Visit) -> None:
    page = visit(here.url, reduced_motion="reduce")
    # Given a bar that waits, which moves for everyone else
    page.evaluate("document.querySelector('#progress').hidden = false")
    animation = "getComputedStyle(document.querySelector('#bar')).animationName"
    assert page.evaluate(animation) == "none"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(animation) == "waiting"


# --- The API's page ---------------------------------------------------------------------------------------------------


def test_the_api_is_shown_with_nothing_from_elsewhere(here: Served, visit: Visit) -> None:
    page = visit("about:blank")
    asked: list[str] = []
    complaints: list[ConsoleMessage] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message) if message.type == "error" else None)
    page.goto(f"{here.url}/docs")
    # Then every route is there, and one can be tried out
    expect(page.locator(".opblock")).to_have_count(11)
    page.locator("#operations-health-healthz_healthz_get").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    assert all(url.startswith((here.url, "data:", "blob:")) for url in asked if url != "about:blank"), asked
    assert [message.text for message in complaints] == []


def test_the_list_goes_on_where_the_reader_wants_more(here: Served, visit: Visit) -> None:
    # Given more reports than are shown at once
    with Site(here.url) as site:
        for period in ("day", "week", "month"):
            for layout in ("grouped", "table"):
                assert finished(site, submit(site, period=period, layout=layout))["state"] == "SUCCESS"
        total = site.get("/reports").json()["total"]
    page = visit(here.url)
    expect(page.locator("#earlier li")).to_have_count(5)
    # When the reader asks for more
    page.get_by_role("button", name="Show more").click()
    # Then they come
    expect(page.locator("#earlier li")).to_have_count(min(total, 10))
