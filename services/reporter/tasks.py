"""Reports of the hottest repositories: five pages at once, joined, grouped, written."""

import time
from dataclasses import asdict
from functools import cache

from celery import chord

from services.reporter import archive, report
from services.reporter.app import app
from services.reporter.github import GitHub
from services.reporter.question import csv_name, language_csv_name, question
from shared.errors import Retryable
from shared.metrics.declared import REPORT
from shared.results import progress
from shared.signatures import reporter as contract
from shared.signatures.reporter import Assignment, ReportResult, WrittenFile
from shared.storage import Storage
from shared.tasks import implements

#: GitHub gives at most 100 repositories a page; five pages are the report's 500.
PER_PAGE = 100
PAGES = 5
#: GitHub ran out of time for a search: so many more attempts before what it found is taken, with a warning.
INCOMPLETE_RETRIES = 2


class Incomplete(Retryable):
    """GitHub gave a part of a page."""


@cache
def github() -> GitHub:
    """The client of this process: made at first use, because a pooled connection must not cross a fork."""
    token = app.settings.github_token
    return GitHub(app.settings.github_api_url, token.get_secret_value() if token else None)


@cache
def storage() -> Storage:
    """Where reports are kept."""
    return Storage(app.settings.reports_location)


@implements(contract.produce_report, app, bind=True)
def produce_report(task, period, ref_date, group_by, layout, per_language, refresh):
    asked = question(period, ref_date, group_by, layout, per_language)
    if not refresh and (kept := archive.find(storage(), asked)):
        return kept
    progress.tell(task.backend, task.request.id, "fetch", 0, PAGES)
    assignment = Assignment(question=asked, task_id=task.request.id, started=time.time())
    return task.replace(
        chord(
            [contract.fetch_repos(asked.since, PER_PAGE, page, task.request.id) for page in range(1, PAGES + 1)],
            contract.build_report.s(assignment=assignment),
        )
    )


@implements(contract.fetch_repos, app, bind=True, autoretry_for=(Retryable,))
def fetch_repos(task, since, per_page, page, report_to):
    found = github().search(since, per_page=per_page, page=page)
    if found.incomplete and task.request.retries < INCOMPLETE_RETRIES:
        raise Incomplete(f"GitHub ran out of time for page {page} and gave {len(found.repos)} repositories of it")
    if report_to:
        progress.part_done(task.backend, report_to, "fetch", str(page), PAGES)
    return found


@implements(contract.build_report, app, bind=True)
def build_report(task, pages, assignment):
    asked = assignment.question
    repos, warnings = report.join(pages)
    languages = report.languages(repos)
    if asked.per_language and repos:
        progress.tell(task.backend, assignment.task_id, "write", 0, len(languages))
        parts = report.group(repos, "language").items()
        return task.replace(
            chord(
                [contract.write_language(language, members, assignment, len(languages)) for language, members in parts],
                contract.write_index.s(assignment=assignment, languages=languages, warnings=warnings),
            )
        )
    rows = report.index_rows([], {}) if asked.per_language else report.rows(repos, asked.layout, asked.group_by)
    return _finish(task, assignment, rows, languages, warnings, repositories=len(repos))


@implements(contract.write_language, app, bind=True)
def write_language(task, language, repos, assignment, of):
    asked = assignment.question
    rows = report.rows(repos, asked.layout, asked.group_by)
    written = _write(language_csv_name(asked, language), rows, headed=asked.layout == "table", group=language)
    progress.part_done(task.backend, assignment.task_id, "write", language, of)
    return written


@implements(contract.write_index, app, bind=True)
def write_index(task, files, assignment, languages, warnings):
    rows = report.index_rows(files, languages)
    return _finish(task, assignment, rows, languages, warnings, repositories=sum(languages.values()), files=files)


def _finish(task, assignment, rows, languages, warnings, *, repositories, files=()):
    asked = assignment.question
    progress.tell(task.backend, assignment.task_id, "write", 0, len(rows))
    headed = asked.per_language or asked.layout == "table"
    written = _write(csv_name(asked), rows, headed=headed)
    result = ReportResult(
        **written.model_dump(),
        question=asked,
        repositories=repositories,
        languages=languages,
        seconds=time.time() - assignment.started,
        files=list(files),
        warnings=warnings,
    )
    REPORT.set(time.time(), asked.period)
    return archive.keep(storage(), result)


def _write(name, rows, *, headed, group=None):
    stored = storage().write(name, report.encode(rows))
    return WrittenFile(**asdict(stored), rows=len(rows) - headed, group=group)
