"""Who may do what: keys, other sites' pages, sizes, and the headers of every answer."""

import pytest

from services.gateway.guards import LARGEST_BODY
from tests.serving import Serve, Site, problem

KEYS = ("a-key-of-the-tests-1", "a-key-of-the-tests-2")
OPEN = ("/", "/docs", "/healthz", "/readyz", "/favicon.ico", "/static/page.js", "/static/page.css", "/static/docs.js")
GUARDED = (
    *("/reports", "/reports/x", "/tasks/x", "/tasks/x/events", "/report-error", "/openapi.json", "/page-settings"),
    # What is not there needs a key too: else it would tell what is.
    *("/nowhere", "/staticx", "/static", "/docs/x", "//", "/healthz/x", "/static/../reports", "/STATIC/page.js"),
)


@pytest.fixture
def locked(serve: Serve) -> Site:
    """A gateway that wants a key."""
    return serve(gateway_api_keys=", ".join(KEYS))


# --- Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OPEN)
def test_health_and_what_is_static_are_open_to_everyone(locked: Site, path: str) -> None:
    assert locked.get(path).status_code == 200


@pytest.mark.parametrize("path", GUARDED)
def test_all_else_wants_a_key(locked: Site, path: str) -> None:
    answer = locked.get(f"{locked.url}{path}")
    problem(answer, 401, "api-key-needed")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/reports", "/break", "/healthz", "/"])
def test_so_does_everything_that_changes_something(locked: Site, path: str) -> None:
    answer = locked.post(path, json={})
    # Beside what is open only because it is read
    assert answer.status_code == (405 if path in OPEN else 401)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_each_key_opens(locked: Site, key: str, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {key}"}
    assert locked.get("/reports", headers=headers).status_code == 200
    assert locked.post("/reports", json={}, headers=headers).status_code == 202
    assert locked.get("/nowhere", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", f"Basic {KEYS[0]}", KEYS[0], f"Bearer {KEYS[0]}x", f"Bearer {KEYS[0][:-1]}"),
        *(f"Bearer {', '.join(KEYS)}", f"Bearer {KEYS[0].upper()}", f"Bearer {KEYS[0]} {KEYS[1]}", "Bearer é"),
    ],
)
def test_anything_else_does_not(locked: Site, authorization: str) -> None:
    answer = locked.get("/reports", headers=[(b"Authorization", authorization.encode())])
    problem(answer, 401, "api-key-needed")


def test_a_key_in_the_address_is_none(locked: Site) -> None:
    # It would stand in logs and histories
    for name in ("key", "api_key", "access_token"):
        assert locked.get(f"/reports?{name}={KEYS[0]}").status_code == 401


def test_without_keys_nobody_is_asked(site: Site) -> None:
    assert site.get("/reports").status_code == 200


def test_events_can_be_read_with_a_key(locked: Site) -> None:
    headers = {"Authorization": f"Bearer {KEYS[0]}"}
    links = locked.post("/reports", json={}, headers=headers).json()["links"]
    with locked.stream("GET", links["events"], headers=headers) as answer:
        assert answer.status_code == 200


def test_keys_stand_in_the_document_where_they_are_wanted(serve: Serve, locked: Site) -> None:
    headers = {"Authorization": f"Bearer {KEYS[0]}"}
    document = locked.get("/openapi.json", headers=headers).json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert (
        document["paths"]["/reports"]["get"]["security"] and "401" in document["paths"]["/reports"]["get"]["responses"]
    )
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert KEYS[0] not in str(document)


# --- Other sites ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"]
)
@pytest.mark.parametrize("path", ["/reports", "/break"])
def test_what_a_form_could_send_is_refused(site: Site, path: str, content_type: str) -> None:
    answer = site.post(path, content=b"{}", headers={"Content-Type": content_type})
    assert "Content-Type" in problem(answer, 415, "json-needed")["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/reports", "/break"])
def test_what_another_sites_page_sends_is_refused(site: Site, path: str, headers: dict[str, str]) -> None:
    answer = site.post(path, json={}, headers=headers)
    problem(answer, 403, "other-origin")


def test_our_own_page_may(site: Site) -> None:
    headers = {"Origin": site.url, "Sec-Fetch-Site": "same-origin"}
    assert site.post("/reports", json={}, headers=headers).status_code == 202


def test_a_program_may(site: Site) -> None:
    # It is no browser, and says nothing of where it comes from
    assert site.post("/reports", json={}).status_code == 202


def test_nobody_elsewhere_may_read_an_answer(site: Site) -> None:
    # Given a page of another site
    answer = site.get("/reports", headers={"Origin": "https://elsewhere.example"})
    # Then its browser keeps the answer from it
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


# --- Sizes ------------------------------------------------------------------------------------------------------------


def test_a_body_that_nobody_needs_is_refused(site: Site) -> None:
    answer = site.post("/reports", content=b" " * (LARGEST_BODY + 1), headers={"Content-Type": "application/json"})
    problem(answer, 413, "body-too-large")


def test_so_is_one_that_does_not_say_its_size(site: Site) -> None:
    answer = site.post(
        "/reports",
        content=(b" " * 1024 for _ in range(LARGEST_BODY // 1024 + 1)),
        headers={"Content-Type": "application/json"},
    )
    problem(answer, 413, "body-too-large")


def test_one_of_the_largest_size_is_read(site: Site) -> None:
    body = b"{}" + b" " * (LARGEST_BODY - 2)
    assert site.post("/reports", content=body, headers={"Content-Type": "application/json"}).status_code == 202


# --- Headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*OPEN, "/reports", "/reports/x", "/tasks/x", "/nowhere", "/report-error"])
def test_every_answer_has_the_headers_that_protect_its_reader(site: Site, path: str) -> None:
    headers = site.get(path).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"]


def test_a_refusal_has_them_too(locked: Site) -> None:
    for answer in (
        locked.get("/reports"),
        locked.post("/reports", content=b"", headers={"Content-Type": "text/plain"}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
