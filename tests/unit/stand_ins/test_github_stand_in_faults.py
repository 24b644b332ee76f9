"""Each fault, as a client meets it."""

import json
import socket
import time
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.stand_ins.github import FaultError, GitHubStandIn
from tests.stand_ins.github.kinds import KINDS

Search = Callable[..., requests.Response]


def connect(github: GitHubStandIn) -> socket.socket:
    """A connection over which a search has been sent."""
    address = urlsplit(github.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=5)
    connection.sendall(b"GET /search/repositories?q=repo HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\n\r\n")
    return connection


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "did not come true in five seconds"
        time.sleep(0.005)


def test_a_primary_limit(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("rate_limited_403", reset=7)
    answer = search(thirty_five, q="repo")
    assert answer.status_code == 403
    assert "API rate limit exceeded" in answer.json()["message"]
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert 5 <= int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 8
    assert "Retry-After" not in answer.headers


def test_a_secondary_limit(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("retry_after_403", retry_after=3)
    answer = search(thirty_five, q="repo")
    assert (answer.status_code, answer.headers["Retry-After"]) == (403, "3")
    assert "secondary rate limit" in answer.json()["message"]
    assert answer.headers["X-RateLimit-Remaining"] != "0"


def test_too_many_requests(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("too_many_429", retry_after=1)
    answer = search(thirty_five, q="repo")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")


def test_a_plain_refusal_bears_no_sign_of_a_limit(serve: Callable[..., GitHubStandIn], search: Search) -> None:
    # Given a client that has just spent its last request
    github = serve([], rate_limits=True)
    for _ in range(9):
        search(github, q="repo")
    # When it is refused for another reason
    github.faults.add("forbidden_403")
    answer = search(github, q="repo")
    # Then nothing suggests that waiting would help
    assert answer.status_code == 403
    assert "limit" not in answer.text
    assert "Retry-After" not in answer.headers
    assert answer.headers["X-RateLimit-Remaining"] != "0"


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("server_error_500", 500, "application/json"),
        ("server_error_502", 502, "text/html"),
        ("server_error_503", 503, "text/html"),
        ("html_instead", 200, "text/html"),
        ("invalid_422", 422, "application/json"),
    ],
)
def test_another_answer_instead(thirty_five: GitHubStandIn, search: Search, name: str, status: int, kind: str) -> None:
    thirty_five.faults.add(name)
    answer = search(thirty_five, q="repo")
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (status, kind)
    assert ("errors" in answer.text) == (name == "invalid_422")
    assert "Link" not in answer.headers


def test_slow(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("slow", seconds=0.2)
    assert search(thirty_five, q="repo").status_code == 200
    [record] = thirty_five.requests
    assert record.ended is not None
    assert record.ended - record.started >= 0.2
    assert record.fault == "slow"


def test_a_hang_ends_when_the_client_leaves(thirty_five: GitHubStandIn) -> None:
    # Given a fault that never answers
    thirty_five.faults.add("hang")
    connection = connect(thirty_five)
    # When the client gives up
    connection.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    assert thirty_five.requests[0].ended is None
    connection.close()
    # Then the stand-in notices
    eventually(lambda: thirty_five.requests[0].ended is not None)
    assert thirty_five.requests[0].status is None


def test_a_hang_ends_when_the_stand_in_closes(serve: Callable[..., GitHubStandIn]) -> None:
    # Given a client that hangs
    github = serve([])
    github.faults.add("hang")
    with connect(github) as connection:
        eventually(lambda: len(github.requests) == 1 and github.requests[0].fault == "hang")
        # When the stand-in closes
        before = time.monotonic()
        github.close()
        # Then nobody waits for anybody
        assert connection.recv(1) == b""
        assert time.monotonic() - before < 1


def test_a_reset_before_any_answer(thirty_five: GitHubStandIn) -> None:
    thirty_five.faults.add("reset")
    with connect(thirty_five) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    eventually(lambda: thirty_five.requests[0].ended is not None)
    assert thirty_five.requests[0].status is None


def test_a_reset_in_the_middle_of_the_body(thirty_five: GitHubStandIn) -> None:
    thirty_five.faults.add("reset", when="mid_body")
    received = b""
    # When I read all that comes
    with connect(thirty_five) as connection, pytest.raises(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
    # Then it breaks off after the headers and half of what they announce
    head, _, body = received.partition(b"\r\n\r\n")
    announced = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) == announced // 2


@pytest.mark.parametrize("when", ["before_answer", "mid_body"])
def test_a_library_sees_a_reset_as_a_broken_connection(thirty_five: GitHubStandIn, search: Search, when: str) -> None:
    thirty_five.faults.add("reset", when=when)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        search(thirty_five, q="repo")
    assert search(thirty_five, q="repo").status_code == 200


def test_broken_json_is_text_all_the_same(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("broken_json")
    answer = search(thirty_five, q="repo")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert answer.content.decode().startswith('{"total_count": 35')
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.content)


def test_incomplete_results(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("incomplete_results")
    body = search(thirty_five, q="repo").json()
    assert (body["incomplete_results"], len(body["items"]), body["total_count"]) == (True, 15, 35)


def test_an_empty_page(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("empty_page")
    body = search(thirty_five, q="repo").json()
    assert (body["incomplete_results"], body["items"], body["total_count"]) == (False, [], 35)


def test_null_fields(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("null_fields")
    items = search(thirty_five, q="repo").json()["items"]
    assert {(item["language"], item["description"]) for item in items} == {(None, None)}
    assert len(items) == 30


def test_a_wrong_shape(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("wrong_shape")
    assert not isinstance(search(thirty_five, q="repo").json()["items"], list)


def statuses(github: GitHubStandIn, search: Search, count: int) -> list[int]:
    return [search(github, q="repo").status_code for _ in range(count)]


def test_times_runs_out(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("server_error_500", times=2)
    assert statuses(thirty_five, search, 3) == [500, 500, 200]
    assert thirty_five.faults.waiting() == []


def test_for_ever_lasts_until_cleared(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("server_error_500", times=None)
    assert statuses(thirty_five, search, 5) == [500] * 5
    thirty_five.faults.clear()
    assert statuses(thirty_five, search, 1) == [200]


def test_a_fault_of_a_page_waits_for_that_page(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("server_error_502", page=2)
    pages = (1, 3, 2, 2)
    answers = [search(thirty_five, q="repo", page=page, per_page=10).status_code for page in pages]
    assert answers == [200, 200, 502, 200]


def test_the_oldest_that_fits_strikes(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("server_error_500", page=9)
    thirty_five.faults.add("server_error_502")
    thirty_five.faults.add("server_error_503")
    assert statuses(thirty_five, search, 3) == [502, 503, 200]


def test_a_probability_follows_its_seed(thirty_five: GitHubStandIn, search: Search) -> None:
    drawn = []
    for seed in (1, 1, 2):
        thirty_five.faults.clear()
        thirty_five.faults.add("server_error_500", times=None, probability=0.5, seed=seed)
        drawn.append(statuses(thirty_five, search, 20))
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(set(each) == {200, 500} for each in drawn)


def test_what_bends_results_waits_for_some(thirty_five: GitHubStandIn, search: Search) -> None:
    thirty_five.faults.add("empty_page")
    assert search(thirty_five).status_code == 422
    assert search(thirty_five, q="repo").json()["items"] == []


def test_a_fault_strikes_as_often_as_told_however_many_come_at_once(thirty_five: GitHubStandIn) -> None:
    # Given ten faults
    thirty_five.faults.add("server_error_500", times=10)
    start = Barrier(40)

    def ask() -> None:
        start.wait()
        requests.get(f"{thirty_five.url}/search/repositories?q=repo", timeout=5)

    # When forty ask at once
    askers = [Thread(target=ask) for _ in range(40)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    # Then ten of them meet one
    assert sorted(str(each.status) for each in thirty_five.requests) == ["200"] * 30 + ["500"] * 10


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        ("nonesuch", {}, "name"),
        (None, {}, "name"),
        (["slow"], {}, "name"),
        ("slow", {"times": 0}, "times"),
        ("slow", {"times": "2"}, "times"),
        ("slow", {"times": True}, "times"),
        ("slow", {"page": 0}, "page"),
        ("slow", {"page": 1.5}, "page"),
        ("slow", {"probability": 0}, "probability"),
        ("slow", {"probability": 1.1}, "probability"),
        ("slow", {"probability": None}, "probability"),
        ("slow", {"seed": "x"}, "seed"),
        ("slow", {"seconds": -1}, "seconds"),
        ("slow", {"seconds": float("nan")}, "seconds"),
        ("slow", {"seconds": 10**400}, "seconds"),
        ("slow", {"probability": float("nan")}, "probability"),
        ("slow", {"retry_after": 1}, "retry_after"),
        ("slow", {"answer": 1}, "answer"),
        ("slow", {"self": 1}, "self"),
        ("too_many_429", {"retry_after": "soon"}, "retry_after"),
        ("reset", {"when": "later"}, "when"),
        ("reset", {"when": []}, "when"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_its_argument(
    thirty_five: GitHubStandIn, name: Any, arguments: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(FaultError) as refused:
        thirty_five.faults.add(name, **arguments)
    assert refused.value.argument == wrong
    assert str(refused.value).startswith(f"{wrong}: expected ")
    assert thirty_five.faults.waiting() == []


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_needs_no_arguments(thirty_five: GitHubStandIn, name: str) -> None:
    assert thirty_five.faults.add(name)["name"] == name
