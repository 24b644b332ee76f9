"""Handing in a report: what is taken, what is refused, and what is known of it afterwards."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from services.gateway.results import ResultsAway
from shared.signatures import reporter as contract
from tests.serving import Site, problem, submit


def folder(site: Site) -> Path:
    return site.app.state.house.settings.local_dir


def known(site: Site) -> list[str]:
    """The states of all tasks that the result store knows."""
    with sqlite3.connect(folder(site) / "results.sqlite") as connection:
        return [json.loads(row[0])["status"] for row in connection.execute("SELECT value FROM kept")]


def messages(site: Site) -> list[Any]:
    """The tasks that wait for a worker: headers and arguments of each."""
    waiting = (folder(site) / "broker" / "messages").glob("*.msg")
    return [json.loads(path.read_text()) for path in waiting]


# --- Taken ------------------------------------------------------------------------------------------------------------


def test_a_report_is_taken_and_can_be_asked_for_at_once(site: Site) -> None:
    # When a report is asked for
    answer = site.post("/reports", json={"period": "week"})
    # Then it is taken, and says where to go on
    assert answer.status_code == 202
    task_id, links = answer.json()["id"], answer.json()["links"]
    assert links == {"self": f"/tasks/{task_id}", "events": f"/tasks/{task_id}/events"}
    assert answer.headers["location"] == links["self"]
    # And its state is known before any worker has it
    assert site.get(links["self"]).json() == {"id": task_id, "state": "SUBMITTED", "final": False, "links": links}
    # And it is on its way, once, to the reporter
    (message,) = messages(site)
    assert message["headers"]["id"] == task_id and message["headers"]["task"] == "reporter.produce_report"
    assert message["properties"]["delivery_info"]["routing_key"] == "reporter.produce_report"


def test_its_body_has_the_parameters_of_the_declared_task(site: Site) -> None:
    # Given the OpenAPI document
    document = site.get("/openapi.json").json()
    body = document["paths"]["/reports"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    # Then the body's fields are those of the declaration, which is written once
    assert list(schema["properties"]) == list(contract.produce_report.parameters)


def test_an_argument_that_is_not_given_is_left_to_the_task(site: Site) -> None:
    submit(site, group_by="topic", per_language=True)
    (message,) = messages(site)
    assert json.loads(_body(message))[1] == {"group_by": "topic", "per_language": True}


def _body(message: Any) -> str:
    import base64

    return base64.b64decode(message["body"]).decode()


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"period": "year"}, "period"),
        ({"period": 7}, "period"),
        ({"ref_date": "yesterday"}, "ref_date"),
        ({"ref_date": "9999-12-31"}, "ref_date"),
        ({"group_by": None}, "group_by"),
        ({"layout": "pie"}, "layout"),
        ({"per_language": "perhaps"}, "per_language"),
        ({"colour": "red"}, "colour"),
        ([], "body"),
        (None, "body"),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(site: Site, arguments: Any, field: str) -> None:
    # When something is asked for that the declaration does not allow
    answer = site.post("/reports", json=arguments, headers={"Content-Type": "application/json"})
    # Then the answer names the field
    document = problem(answer, 422, "invalid-request")
    assert [wrong["field"] for wrong in document["errors"]] == [field]
    assert document["detail"].startswith(f"{field}: ")
    # And nothing was done
    assert known(site) == [] and messages(site) == []


@pytest.mark.parametrize("body", ["{", "", "nonsense", "\x00", b"\xff\xfe", "{'period': 'week'}"])
def test_a_body_that_is_no_json_is_refused(site: Site, body: str | bytes) -> None:
    answer = site.post("/reports", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "body"


def test_every_wrong_argument_is_named(site: Site) -> None:
    answer = site.post("/reports", json={"period": "year", "layout": "pie"})
    assert {wrong["field"] for wrong in problem(answer, 422, "invalid-request")["errors"]} == {"period", "layout"}


# --- Not possible just now --------------------------------------------------------------------------------------------


def test_where_no_message_can_be_left_nothing_is_known_of_the_task_either(site: Site) -> None:
    # Given a place for messages that is none any more
    place = folder(site) / "broker" / "messages"
    shutil.rmtree(place)
    place.write_text("no folder")
    # When a report is asked for
    answer = site.post("/reports", json={})
    # Then the answer says that it was not taken, and when to come back
    problem(answer, 503, "broker-away")
    assert int(answer.headers["retry-after"]) > 0
    # And its note was taken back
    assert known(site) == []


def test_a_note_that_cannot_be_made_stops_no_task(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a result store that takes nothing
    async def away(*arguments: Any) -> None:
        raise ResultsAway("the disk is full")

    monkeypatch.setattr(site.app.state.house.results, "submitted", away)
    # When a report is asked for, then it is on its way all the same
    task_id = submit(site)
    assert [message["headers"]["id"] for message in messages(site)] == [task_id]
