"""Debian's Chromium, and the page in both houses."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.houses import ComposeHouse
from tests.e2e.stand_in import StandIn
from tests.missing import missing
from tests.serving import whole_house
from tests.stand_ins.github import GitHubStandIn

#: Where a person would read what was caught; nothing listens there.
INBOX = "http://localhost:1080/"
#: Bytes of a picture that does not make cloning slow.
LARGEST = 150_000
#: In a container there is no sandbox to be had; and nothing is asked of anybody but the page's server.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
]


@dataclass(frozen=True)
class Served:
    """A page that is served, and the GitHub behind it.

    Attributes:
        forget: removes every report.
    """

    url: str
    github: StandIn
    forget: Callable[[], object]

    def fresh(self) -> "Served":
        """The same, without a report, and with a GitHub that does nothing wrong yet."""
        self.github.reset()
        self.forget()
        return self


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Not for the whole session: while Playwright runs, nothing else in this thread can use asyncio."""
    path = shutil.which("chromium")
    if path is None:
        missing("browser tests need Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def embedded_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page on this machine alone."""
    folder = tmp_path_factory.mktemp("house")
    with GitHubStandIn() as github, whole_house(folder, github.url, MAIL_CATCHER_URL=INBOX) as url:
        yield Served(url, StandIn(github.url), lambda: shutil.rmtree(folder / "reports", ignore_errors=True))


@pytest.fixture(scope="session")
def cluster_page(cluster: ComposeHouse) -> Served:
    """The page of the shipped compose file."""
    forget = "import pathlib, shutil; [shutil.rmtree(each) for each in pathlib.Path('/reports').iterdir()]"
    return Served(
        f"http://127.0.0.1:{cluster.ports['GATEWAY_PORT']}",
        cluster.github,
        lambda: cluster.compose("exec", "-T", "reporter", "python", "-c", forget),
    )


@pytest.fixture(params=["embedded_page", pytest.param("cluster_page", marks=pytest.mark.containers)])
def served(request: pytest.FixtureRequest) -> Served:
    """Both, one after the other."""
    chosen: Served = request.getfixturevalue(request.param)
    return chosen.fresh()


@pytest.fixture
def here(embedded_page: Served) -> Served:
    """The one on this machine, for what is the same in both."""
    return embedded_page.fresh()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Where pictures go: a folder that nobody keeps, unless SCREENSHOTS names another."""
    return Path(os.environ.get("SCREENSHOTS") or tmp_path)


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address as a reader with these settings of the browser would."""
    contexts = []

    def open_page(url: str, **settings: object) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1000, "height": 800}, **settings})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
