"""The OpenAPI document: true in what it says of every route, and shown without anything from elsewhere."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import nothing
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serving import PATIENCE, Site

#: Routes whose work is to break.
DELIBERATE = {"/report-error", "/break"}
#: Rules that a schema cannot tell: today is another day tomorrow; an address is more than a pattern.
UNTOLD = ("must not lie after today", "must be an address like", "must have no line break", "is a parameter")
ROUTES = [
    ("POST", "/reports"),
    ("GET", "/reports"),
    ("GET", "/reports/{name}"),
    ("GET", "/tasks/{id}"),
    ("GET", "/tasks/{id}/events"),
    ("POST", "/notifications"),
    ("GET", "/report-error"),
    ("POST", "/break"),
    ("GET", "/page-settings"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
]


def test_the_page_of_the_api_loads_everything_from_here(site: Site) -> None:
    page = site.get("/docs").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 4
    for path in loaded:
        assert path.startswith("/") and not path.startswith("//")
        assert site.get(path).status_code == 200


def test_no_page_has_script_or_style_of_its_own(site: Site) -> None:
    for path in ("/", "/docs"):
        page = site.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", page)


def test_every_route_is_in_the_document(site: Site) -> None:
    document = site.get("/openapi.json").json()
    assert {(method.upper(), path) for path, item in document["paths"].items() for method in item} == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_whatever_is_sent_the_answer_is_in_the_document(site: Site, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_url(f"{site.url}/openapi.json")
    operation = schema[path][method]

    # When something is sent that was made up from the document, allowed by it or not
    @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | _wrong(operation))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        answer = case.call(timeout=PATIENCE)
        # Then the answer is one that the document names, in the form that it says
        breaks = path in DELIBERATE
        excluded = [not_a_server_error] if breaks else []
        if any(rule in answer.text for rule in UNTOLD):
            excluded.append(positive_data_acceptance)
        case.validate_response(answer, excluded_checks=excluded)
        # And it is no 5xx, but where breaking is the work
        assert answer.status_code < 500 or (breaks and answer.status_code == 500)

    ask()


def _wrong(operation: Any) -> Any:
    """What the document forbids; a route that takes nothing forbids nothing."""
    takes_something = operation.body or operation.path_parameters or operation.query
    return operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) if takes_something else nothing()
