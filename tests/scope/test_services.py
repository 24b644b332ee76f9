"""The service `scoped`, played with the mailer behind it: a notice in the language of its caller's scope."""

import email
import email.policy
import os
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from celery import _state, chain

from shared.app import create_app
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.embedded.worker import running
from shared.scope import scope
from shared.signatures import scoped
from shared.topology import service

PATIENCE = 30


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both workers without a server; gives the folder in which mail lands."""
    local = tmp_path_factory.mktemp("services") / "local"
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    environ |= {"LOCAL_DIR": str(local)}
    kept, default = _state._tls.current_app, _state.default_app
    Transport.global_state.clear()
    settings = Settings.load(environ)
    app = create_app(settings=settings)
    with running(service("scoped"), settings, environ), running(service("mailer"), settings, environ):
        yield local / "mail"
    app.close()
    _state._tls.current_app = kept
    _state.set_default_app(default)


def mail_to(folder: Path, user: str) -> EmailMessage:
    """The one mail for `user`, once it is there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [
            message
            for path in folder.glob("**/*.eml")
            if user in str((message := email.message_from_bytes(path.read_bytes(), policy=email.policy.default))["To"])
        ]
        if found:
            assert len(found) == 1 and isinstance(found[0], EmailMessage)
            return found[0]
        assert time.monotonic() < deadline, f"no mail for {user}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("locale", "subject", "text"),
    [
        ("fr", "Votre rapport du 15 mars 2026 est prêt", "Le rapport contient 2 dépôts."),
        ("ru", "Ваш отчёт за 15 марта 2026", "В отчёте 2 репозитория."),
        ("it", "Your report of March 15, 2026 is ready", "The report lists 2 repositories."),
    ],
)
def test_a_notice_is_in_the_language_of_its_callers_scope(mails: Path, locale: str, subject: str, text: str) -> None:
    # When somebody is notified inside a scope
    user = f"{locale}@example.org"
    with scope(locale=locale):
        notice = scoped.notify(user, "report_ready", repositories=2, ref_date="2026-03-15").delay()
    # Then one mail is there, in that language or the default, and the notice's own id tells what became of it
    mail = mail_to(mails, user)
    assert str(mail["Subject"]).startswith(subject)
    assert mail.get_content().strip() == text
    assert notice.get(timeout=PATIENCE)["sent"] == [user]


def test_a_language_that_is_asked_for_wins_over_the_scope(mails: Path) -> None:
    with scope(locale="fr"):
        scoped.notify("asked@example.org", "quota_low", locale="de", left=1, until="2026-03-15").delay()
    assert "noch 1 Bericht anfordern" in mail_to(mails, "asked@example.org").get_content()


def test_wrong_facts_are_a_clear_error(mails: Path) -> None:
    notice = scoped.notify("wrong@example.org", "quota_low", left=1).delay()
    with pytest.raises(Exception, match="until: Field required"):
        notice.get(timeout=PATIENCE)


def test_a_scenario_is_found_by_the_scope(mails: Path) -> None:
    with scope(scenario_id=2):
        assert scoped.read_scenario.s().delay().get(timeout=PATIENCE)["id"] == 2
        assert scoped.read_scenario(1).delay().get(timeout=PATIENCE)["id"] == 1


def test_an_unknown_scenario_and_none_at_all_are_clear_errors(mails: Path) -> None:
    with pytest.raises(Exception, match="there is no scenario 99"):
        scoped.read_scenario(99).delay().get(timeout=PATIENCE)
    with pytest.raises(Exception, match="give scenario_id"):
        scoped.read_scenario().delay().get(timeout=PATIENCE)


def test_a_scope_is_inherited_three_levels_deep(mails: Path) -> None:
    with scope(locale="kk", scenario_id=2):
        assert scoped.show(3).delay().get(timeout=PATIENCE) == {"locale": "kk", "scenario_id": 2}
    assert chain(scoped.show.si(0)).delay().get(timeout=PATIENCE) == {}
