"""What a publisher of mail is told where it submits."""

from typing import Any

import pytest

from shared import attachments
from shared.errors import InvalidArguments
from shared.signatures import mailer as contract
from shared.storage import Storage

GOOD: dict[str, Any] = {"to": ["ann@example.org"], "subject": "hello", "text": "text"}


def refusal(**changes: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        contract.send_email(**{**GOOD, **changes})
    return str(caught.value)


def test_a_mail_is_addressed_in_one_spelling() -> None:
    signature = contract.send_email(**{**GOOD, "to": "Ann@EXAMPLE.org, bob@example.org"})
    assert signature.kwargs["to"] == ["Ann@example.org", "bob@example.org"]


@pytest.mark.parametrize("subject", ["a\nb", "a\r\nBcc: eve@example.org", "a\u2028b", "", "x" * 901])
def test_a_subject_that_is_no_header_is_refused(subject: str) -> None:
    assert refusal(subject=subject).startswith("mailer.send_email: subject: ")


@pytest.mark.parametrize("to", [[], ["ann"], ["ann@example.org\r\nDATA"], ["ann@example.org"] * 101])
def test_recipients_that_are_none_are_refused(to: list[str]) -> None:
    assert refusal(to=to).startswith("mailer.send_email: to")


@pytest.mark.parametrize(
    "name",
    ["../secrets", "/etc/passwd", "a/../../b", "file:///etc/passwd", "s3://other/x", "a\\b", "a\nb", "", "./a", "a//b"],
)
def test_an_attachment_outside_the_storage_is_refused(name: str) -> None:
    assert refusal(attachments=[name]).startswith("mailer.send_email: attachments.0: ")


@pytest.mark.parametrize(
    "change", [{"kind": "spam"}, {"dedup_key": "a\nb"}, {"dedup_key": ""}, {"text": "x" * 1_000_001}]
)
def test_the_rest_is_checked_too(change: dict[str, Any]) -> None:
    assert refusal(**change).startswith(f"mailer.send_email: {next(iter(change))}: ")


def test_an_error_report_needs_no_answer_and_a_mail_gives_one() -> None:
    # Publishing a task whose result is kept waits for Redis; a report of an error must not.
    assert not contract.report_error.keeps_result
    assert contract.send_email.keeps_result


def test_a_publisher_can_ask_for_the_sizes_of_its_files(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    storage.write("small.csv", b"x" * 10)
    attachments.check(storage, ["small.csv"], limit=10)
    for names, limit, complaint in (
        (["small.csv"], 9, "10 bytes, but ATTACHMENTS_LIMIT is 9"),
        (["small.csv", "small.csv"], 19, "20 bytes"),
        (["none.csv"], 10, "is no file under REPORTS_URL"),
        (["../x"], 10, "must be a relative path"),
    ):
        with pytest.raises(InvalidArguments, match=f"attachments: .*{complaint}"):
            attachments.check(storage, names, limit)
