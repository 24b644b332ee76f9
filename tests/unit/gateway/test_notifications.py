"""Notices: in the language that their reader asked for."""

import pytest

from services.gateway.routes.notifications import wanted
from services.scoped.languages import catalogues
from shared.signatures.scoped import LANGUAGES
from tests.serving import Site

NOTICE = {"user": "ann@example.org", "event": "quota_low", "facts": {"left": 3, "until": "2026-12-01"}}


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        (None, None),
        ("", None),
        ("fr", "fr"),
        ("fr-CH, fr;q=0.9, en;q=0.8", "fr-CH"),
        ("en;q=0.2, ja;q=0.9, ru;q=0.5", "ja"),
        # Nobody has words for the first; the second is better than the default.
        ("tlh, kk;q=0.8", "kk"),
        ("fr;q=0, de;q=0.1", "de"),
        ("*", None),
        ("fr\r\nBcc: x, ;;q=, de-" + "x" * 50, None),
        ("de;q=2, fr;q=nonsense", None),
    ],
)
def test_the_best_language_of_a_reader_is_found(header: str | None, locale: str | None) -> None:
    assert wanted(header) == ({} if locale is None else {"locale": locale})


def test_the_languages_that_are_asked_for_are_those_that_there_are_words_for() -> None:
    assert set(LANGUAGES) == catalogues()


def test_a_notice_is_taken_and_can_be_followed(site: Site) -> None:
    # When a program asks for a notice
    answer = site.post("/notifications", json=NOTICE, headers={"Accept-Language": "fr"})
    # Then it is taken, and its task known
    assert answer.status_code == 202
    assert site.get(answer.json()["links"]["self"]).json()["state"] == "SUBMITTED"


@pytest.mark.parametrize(
    ("wrong", "field"), [({"user": "nobody"}, "user"), ({"event": "party"}, "event"), ({"locale": "x" * 99}, "locale")]
)
def test_a_wrong_notice_is_refused_by_its_field(site: Site, wrong: dict[str, str], field: str) -> None:
    answer = site.post("/notifications", json={**NOTICE, **wrong})
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_a_fact_takes_no_parameters_place(site: Site) -> None:
    answer = site.post("/notifications", json={**NOTICE, "facts": {"user": "eve@example.org"}})
    assert answer.status_code == 422
    assert "facts" in answer.json()["detail"]
