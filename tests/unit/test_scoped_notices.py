"""Notices in the reader's language: words, plural forms, numbers, dates, and what happens without a translation."""

from datetime import date
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from services.scoped.languages import FOLDER, Language, catalogues
from services.scoped.notices import render
from services.scoped.scenarios import UnknownScenario, read
from shared.errors import InvalidArguments

DAY = date(2026, 3, 15)
ONE, TWO, FIVE, MANY = 1, 2, 5, 1500


def ready(locale: str | None, repositories: int) -> tuple[str, str]:
    """Subject and text of a report with so many repositories."""
    facts = {"repositories": repositories, "ref_date": DAY}
    subject, text = render("report_ready", facts, Language.best(locale))
    return subject, text.strip()


def test_each_language_that_was_promised_is_there() -> None:
    assert catalogues() == {"en", "fr", "de", "ru", "kk", "ja"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.po")), ids=lambda path: path.stem)
def test_each_catalogue_is_complete_and_keeps_the_places_of_its_values(path: Path) -> None:
    with path.open("rb") as source:
        catalogue = read_po(source, locale=path.stem)
    with (FOLDER / "en.po").open("rb") as source:
        wanted = {message.id for message in read_po(source, locale="en") if message.id}
    assert {message.id for message in catalogue if message.id} == wanted
    for message in catalogue:
        if not message.id:
            continue
        original = message.id[0] if isinstance(message.id, tuple) else message.id
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        assert len(forms) == (catalogue.num_plurals if isinstance(message.id, tuple) else 1)
        for form in forms:
            assert form and {"{date}" in form, "{count}" in form} == {"{date}" in original, "{count}" in original}


@pytest.mark.parametrize(
    ("locale", "subject"),
    [
        ("en", "Your report of March 15, 2026 is ready"),
        ("fr", "Votre rapport du 15 mars 2026 est prêt"),
        ("de", "Ihr Bericht vom 15. März 2026 ist fertig"),
        ("ru", "Ваш отчёт за 15 марта 2026\u202fг. готов"),
        ("ja", "2026年3月15日のレポートができました"),
    ],
)
def test_dates_are_written_as_the_language_does(locale: str, subject: str) -> None:
    assert ready(locale, MANY)[0].replace("\xa0", "\u202f") == subject.replace("\xa0", "\u202f")


def test_kazakh_writes_its_own_months() -> None:
    assert "наурыз" in ready("kk", MANY)[0]


@pytest.mark.parametrize(
    ("locale", "number", "text"),
    [
        ("en", ONE, "The report lists 1 repository."),
        ("en", MANY, "The report lists 1,500 repositories."),
        ("fr", 0, "Le rapport contient 0 dépôt."),
        ("fr", MANY, "Le rapport contient 1\u202f500 dépôts."),
        ("de", MANY, "Der Bericht enthält 1.500 Repositorys."),
        ("ru", ONE, "В отчёте 1 репозиторий."),
        ("ru", TWO, "В отчёте 2 репозитория."),
        ("ru", FIVE, "В отчёте 5 репозиториев."),
        ("ru", 11, "В отчёте 11 репозиториев."),
        ("ru", 21, "В отчёте 21 репозиторий."),
        ("kk", FIVE, "Есепте 5 репозиторий бар."),
        ("ja", MANY, "レポートには1,500件のリポジトリが含まれています。"),
    ],
)
def test_plural_forms_and_numbers_follow_the_language(locale: str, number: int, text: str) -> None:
    assert ready(locale, number)[1] == text


@pytest.mark.parametrize(
    ("tag", "catalogue", "locale"),
    [
        ("fr-CH", "fr", "fr_CH"),
        ("de_AT", "de", "de_AT"),
        ("ru-RU", "ru", "ru_RU"),
        ("it", "en", "en"),
        ("xx-nowhere", "en", "en"),
        ("not a tag at all", "en", "en"),
        ("../../etc", "en", "en"),
        (None, "en", "en"),
        ("", "en", "en"),
    ],
)
def test_an_unknown_language_falls_back(tag: str | None, catalogue: str, locale: str) -> None:
    best = Language.best(tag)
    assert (best.catalogue, str(best.locale)) == (catalogue, locale)


def test_a_region_writes_numbers_its_own_way_in_the_words_of_its_language() -> None:
    assert Language.best("de-CH").number(1234567) != Language.best("de").number(1234567)
    assert ready("de-CH", ONE)[1] == ready("de", ONE)[1]


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"repositories": 5}, "ref_date: Field required"),
        ({"repositories": "many", "ref_date": DAY}, "repositories"),
        ({"repositories": 5, "ref_date": DAY, "mood": "good"}, "mood: Extra inputs"),
    ],
)
def test_wrong_facts_are_named(facts: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidArguments, match=named):
        render("report_ready", facts, Language.best("en"))


def test_a_scenario_is_read_by_its_number() -> None:
    assert read(2).title == "A reader has nearly used up a quota"


def test_an_unknown_scenario_is_a_clear_error() -> None:
    with pytest.raises(UnknownScenario, match="there is no scenario 99: choose one of 1, 2"):
        read(99)


def test_every_scenario_says_its_own_number() -> None:
    for path in (Path(read.__code__.co_filename).parent).glob("*.json"):
        assert read(int(path.stem)).id == int(path.stem)
