"""Flower's own pages with what is added to them: who is let in, and where they lead."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flower.app import Flower
from flower.options import options
from flower.urls import settings
from tornado.testing import AsyncHTTPTestCase
from tornado.web import RequestHandler

from shared.app import App
from shared.flower import guard, links, prepare
from tests.flower_routes import flower_routes

KNOWN = "admin:hunter2"
STRANGERS = ["", "admin:wrong", "admin:", "other:hunter2", "admin:hünter"]
METHODS = sorted(RequestHandler.SUPPORTED_METHODS)
API = "http://monitor:hunter2@broker.invalid:15672/api/"


def basic(credentials: str) -> str:
    return "Basic " + b64encode(credentials.encode()).decode()


class Site(AsyncHTTPTestCase):
    """Flower, served; it hears no broker."""

    __test__ = False
    capp: App

    def runTest(self) -> None:
        """Nothing: pytest's functions ask."""

    def get_app(self) -> Flower:
        self.flower = Flower(capp=self.capp, options=options, **settings)
        return self.flower

    def tearDown(self) -> None:
        self.flower.executor.shutdown(wait=False, cancel_futures=True)
        super().tearDown()

    def ask(self, path: str, method: str = "GET", authorization: str | None = None) -> Any:
        headers = {} if authorization is None else {"Authorization": authorization}
        return self.fetch(path, method=method, headers=headers, allow_nonstandard_methods=True, follow_redirects=False)


@pytest.fixture
def site(make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """With a password, as `shared/setup.py` has it, and two links."""
    for owner, name in ((Flower, "find_handler"), (links.Linked, "_create_template")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setitem(settings, "template_loader", None)
    monkeypatch.setenv("GATEWAY_URL", "http://gateway.invalid/?a=1&b=<2>")
    monkeypatch.setenv("GRAFANA_URL", "https://grafana.invalid/")
    before = options.basic_auth
    options.basic_auth = [KNOWN]
    prepare([API])
    site = Site()
    site.capp = make_app()
    site.setUp()
    yield site
    site.tearDown()
    options.basic_auth = before


def test_a_stranger_is_refused_on_every_route_but_health(site: Site) -> None:
    # Given each route that this Flower has
    routes = flower_routes()
    assert {"/", "/metrics", "/broker", "/api/worker/shutdown/x", "/static/x", "/healthcheck", "/x"} <= set(routes)

    # When somebody asks it, by whichever method, without credentials and with wrong ones
    for path in routes:
        for authorization in (None, *map(basic, STRANGERS), "Bearer x", "Basic", "Basic ***"):
            for method in METHODS if authorization in (None, basic(STRANGERS[1])) else ("GET",):
                answer = site.ask(path, method, authorization)
                # Then it says so, and nothing else
                if path != guard.HEALTH:
                    assert answer.code == 401, (path, method, authorization)
                    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
                    assert "Set-Cookie" not in answer.headers
                    assert answer.body in (b"", b"Access denied\n")
    # And health says that it runs, and nothing else
    assert site.ask(guard.HEALTH).body == b"OK"


@pytest.mark.parametrize("path", ["/healthcheck/", "//healthcheck", "/healthcheck/../workers", "/workers?/healthcheck"])
def test_nothing_is_open_that_looks_like_health(site: Site, path: str) -> None:
    assert site.ask(path).code == 401


def test_whoever_knows_the_password_is_let_in(site: Site) -> None:
    for path, status in (("/workers", 200), ("/tasks", 200), ("/metrics", 200), ("/api/tasks", 200), ("/x", 404)):
        assert site.ask(path, authorization=basic(KNOWN)).code == status, path


def test_without_a_password_nobody_is_let_in(site: Site) -> None:
    options.basic_auth = []
    for authorization in (None, basic(KNOWN), basic(""), basic(":")):
        assert site.ask("/workers", authorization=authorization).code == 401


class Links(HTMLParser):
    """The links of a page, by what they are called."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._url: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._url = dict(attrs).get("href")

    def handle_data(self, data: str) -> None:
        if self._url and data.strip():
            self.found.setdefault(data.strip(), self._url)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._url = None


@pytest.mark.parametrize("path", ["/workers", "/tasks", "/x"])
def test_each_page_leads_to_the_gateway_and_to_grafana(site: Site, path: str) -> None:
    found = Links(site.ask(path, authorization=basic(KNOWN)).body.decode()).found
    assert found["Gateway"] == "http://gateway.invalid/?a=1&b=%3C2%3E"
    assert found["Grafana"] == "https://grafana.invalid/"
    # And Flower's own are there too
    assert found["Workers"] == "/workers"


def test_a_wrong_address_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAFANA_URL", "grafana")
    with pytest.raises(SystemExit) as ended:
        prepare([API])
    assert ended.value.code == 2
    assert "GRAFANA_URL" in capsys.readouterr().err
