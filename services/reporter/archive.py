"""Reports that are there already, found by their question."""

from pydantic import ValidationError

from services.reporter.question import manifest_name
from shared.signatures.reporter import Question, ReportResult
from shared.storage import Storage


def find(storage: Storage, question: Question) -> ReportResult | None:
    """The kept answer to `question`, or None where there is none, or its file is gone or was changed in size."""
    try:
        kept = ReportResult.model_validate_json(storage.read(manifest_name(question)))
    except (FileNotFoundError, ValidationError):
        return None
    if kept.question != question or any(storage.size(file.name) != file.bytes for file in (kept, *kept.files)):
        return None
    return kept.model_copy(update={"reused": True})


def keep(storage: Storage, result: ReportResult) -> ReportResult:
    """Keep `result` for the next who asks. It is written last: a report without it is not there."""
    storage.write(manifest_name(result.question), result.model_dump_json(indent=2).encode())
    return result
