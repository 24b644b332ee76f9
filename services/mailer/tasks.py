"""E-mail: what each task sends, and to whom."""

import re
import time
from typing import Any

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from services.mailer import letters
from services.mailer.app import app
from services.mailer.delivery import Attempt
from services.mailer.house import delivery, guard
from services.mailer.message import Mail
from services.mailer.storm import Report, StormAway
from shared.errors import InvalidArguments, Retryable
from shared.metrics.declared import MAILS
from shared.signatures import mailer as contract
from shared.tasks import implements

#: A mail server that greylists, or is mended overnight: some nine hours of attempts before a mail is a dead letter.
PATIENCE: dict[str, Any] = {
    "bind": True,
    "autoretry_for": (Retryable, SoftTimeLimitExceeded),
    "max_retries": 20,
    "retry_backoff_max": 3600,
}


@signals.worker_ready.connect
def begin_at_none(**_):
    """A counter that is first seen at 40 has not grown, to Prometheus: a storm must find one that stands at 0."""
    MAILS.inc("error", "held", by=0)


@implements(contract.send_email, app, **PATIENCE)
def send_email(task, to, subject, text, html, attachments, kind, dedup_key):
    return _deliver(task, Mail(_event(task, dedup_key), kind, tuple(to), subject, text, html, tuple(attachments)))


@implements(contract.report_error, app, **PATIENCE)
def report_error(task, subject, message, html_message, fingerprint, source, occurred_at, dropped):
    now = time.time()
    seen = occurred_at.timestamp() if occurred_at else now
    report = Report(task.request.id, fingerprint or _fingerprint(subject), subject, seen)
    try:
        # An attempt that failed has been counted with its first.
        admitted = guard().admit(report, now, dropped if task.request.retries == 0 else 0)
    except StormAway as error:
        raise Retryable(f"nothing counts the errors: {error}") from error
    if not admitted:
        MAILS.inc("error", "held")
        return None
    return _deliver(
        task, letters.error(report.event, app.settings.admins, subject, message, html_message, source, seen)
    )


@implements(contract.send_digest, app, **PATIENCE)
def send_digest(task, window):
    event = task.request.id
    try:
        held = guard().take(window, event)
        result = _deliver(task, letters.digest(event, app.settings.admins, window, held)) if held else None
        guard().done(window, event)
    except StormAway as error:
        raise Retryable(f"the counts of what was held back are away: {error}") from error
    return result


@implements(contract.send_report, app, **PATIENCE)
def send_report(task, report):
    return _deliver(task, letters.report(app.settings.admins, report))


@implements(contract.send_test, app, **PATIENCE)
def send_test(task):
    return _deliver(task, letters.test(task.request.id, app.settings.admins))


@implements(contract.release, app)
def release(message_id):
    mail = re.fullmatch(r"<?([0-9a-f]{40})(@.*)?", message_id)
    if mail is None:
        raise InvalidArguments(f"message_id: {message_id!r} is no Message-ID of ours: copy it from the dead letter")
    return delivery().release(mail[1])


def _deliver(task, mail):
    try:
        result = delivery().deliver(mail, Attempt(task.request.id, task.request.retries))
    except Exception as error:
        MAILS.inc(mail.kind, "deferred" if isinstance(error, PATIENCE["autoretry_for"]) else "failed")
        raise
    MAILS.inc(mail.kind, "sent" if result.sent else "failed" if result.refused else "already")
    return result


def _event(task, dedup_key):
    # A key that somebody chose can never be a task's id.
    return f"key:{dedup_key}" if dedup_key else task.request.id


def _fingerprint(subject):
    """Without one of its own, a report is known by its subject's words: numbers differ from report to report."""
    return re.sub(r"\d+", "#", subject)[:200]
