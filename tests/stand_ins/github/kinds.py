"""The kinds of trouble. Each is a pure function from the answer that GitHub would give to the one that it gives now."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

from tests.stand_ins.github.answer import DOCS, HTML, JSON, Answer, Delivery, query_invalid, rate_limited

UNICORN = "<!DOCTYPE html>\n<html><head><title>Unicorn!</title></head><body>No server is available.</body></html>\n"
SECONDARY_LIMIT = {
    "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
    "documentation_url": f"{DOCS}/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits",
}

Change = Callable[..., Answer]  # (answer, now in epoch seconds, **arguments) → answer


def instead(answer: Answer, status: int, body: Any, content_type: str = JSON, **headers: str) -> Answer:
    """Another answer under the same request id and limits; `Retry_After` stands for `Retry-After`."""
    kept = {name: value for name, value in answer.headers.items() if name != "Link"}
    added = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, {**kept, **added}, content_type)


def rate_limited_403(answer: Answer, now: float, *, reset: float = 60.0) -> Answer:
    """The primary limit: no Retry-After, but nothing remains until the reset."""
    limit = answer.headers.get("X-RateLimit-Limit", "10")
    refused = rate_limited("127.0.0.1", with_token=False)
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Used": limit, "X-RateLimit-Reset": str(ceil(now + reset))}
    return instead(answer, 403, {**refused.body, "status": "403"}, **spent)


def retry_after_403(answer: Answer, now: float, *, retry_after: float = 60.0) -> Answer:
    """A secondary limit, which says 403 just as a missing permission does."""
    return instead(answer, 403, SECONDARY_LIMIT, Retry_After=str(ceil(retry_after)))


def too_many_429(answer: Answer, now: float, *, retry_after: float = 60.0) -> Answer:
    return instead(answer, 429, SECONDARY_LIMIT, Retry_After=str(ceil(retry_after)))


def forbidden_403(answer: Answer, now: float) -> Answer:
    """A refusal that waiting does not cure: something always remains, as on GitHub, and there is no Retry-After."""
    remaining = max(int(answer.headers.get("X-RateLimit-Remaining", "1")), 1)
    body = {"message": "Resource not accessible by personal access token", "documentation_url": f"{DOCS}/rest"}
    return instead(answer, 403, {**body, "status": "403"}, **{"X-RateLimit-Remaining": str(remaining)})


def invalid_422(answer: Answer, now: float) -> Answer:
    return instead(answer, 422, query_invalid("The search cannot be carried out.").body)


def server_error_500(answer: Answer, now: float) -> Answer:
    return instead(answer, 500, {"message": "Server Error"})


def server_error_502(answer: Answer, now: float) -> Answer:
    return instead(answer, 502, UNICORN, HTML)


def server_error_503(answer: Answer, now: float) -> Answer:
    return instead(answer, 503, UNICORN, HTML)


def html_instead(answer: Answer, now: float) -> Answer:
    return instead(answer, 200, UNICORN, HTML)


def slow(answer: Answer, now: float, *, seconds: float = 2.0) -> Answer:
    return replace(answer, delay=seconds)


def hang(answer: Answer, now: float) -> Answer:
    return replace(answer, delivery=Delivery.NEVER)


def reset(answer: Answer, now: float, *, when: str = "before_answer") -> Answer:
    return replace(answer, delivery=Delivery.RESET if when == "before_answer" else Delivery.RESET_MID_BODY)


def broken_json(answer: Answer, now: float) -> Answer:
    """The first half, cut between characters: valid UTF-8 of the announced length, and not JSON."""
    text = json.dumps(answer.body, ensure_ascii=False)
    return replace(answer, body=text[: len(text) // 2])


def incomplete_results(answer: Answer, now: float) -> Answer:
    """GitHub ran out of time: it says so, and half of the page is missing."""
    items = answer.body["items"]
    return replace(answer, body={**answer.body, "incomplete_results": True, "items": items[: len(items) // 2]})


def empty_page(answer: Answer, now: float) -> Answer:
    return replace(answer, body={**answer.body, "items": []})


def null_fields(answer: Answer, now: float) -> Answer:
    items = [{**item, "language": None, "description": None} for item in answer.body["items"]]
    return replace(answer, body={**answer.body, "items": items})


def wrong_shape(answer: Answer, now: float) -> Answer:
    return replace(answer, body={**answer.body, "items": {"0": None}})


def _kinds(*changes: Change) -> dict[str, Change]:
    return {change.__name__: change for change in changes}


REPLACING = _kinds(
    rate_limited_403, retry_after_403, too_many_429, forbidden_403, invalid_422, server_error_500, server_error_502,
    server_error_503, html_instead, slow, hang, reset,
)  # fmt: skip
BENDING = _kinds(broken_json, incomplete_results, empty_page, null_fields, wrong_shape)  # need results to bend
KINDS = REPLACING | BENDING
