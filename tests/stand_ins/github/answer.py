"""What GitHub says, and how: the bodies and headers of every answer, and the way it leaves the server."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from tests.stand_ins.github.limits import Quota
from tests.stand_ins.github.search import Page

DOCS = "https://docs.github.com"
JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
API_VERSIONS = ("2026-03-10", "2022-11-28")  # the newest first
DEFAULT_API_VERSION = "2022-11-28"


class Delivery(Enum):
    """How an answer reaches the client, or does not."""

    WHOLE = auto()
    NEVER = auto()  # the connection stays open and silent
    RESET = auto()  # TCP RST in place of the answer
    RESET_MID_BODY = auto()  # headers, half of the body, TCP RST


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any  # bytes and str go out as they are, anything else as JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    delay: float = 0.0  # seconds, on top of the latency
    delivery: Delivery = Delivery.WHOLE

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        text = self.body if isinstance(self.body, str) else json.dumps(self.body, ensure_ascii=False)
        return text.encode()


def message(status: int, text: str, docs: str = f"{DOCS}/rest", **more: Any) -> Answer:
    """GitHub's envelope for everything that is not a result."""
    return Answer(status, {"message": text, **more, "documentation_url": docs, "status": str(status)})


def not_found() -> Answer:
    return message(404, "Not Found")


def bad_credentials() -> Answer:
    return message(401, "Bad credentials")


def no_user_agent() -> Answer:
    """Said by the proxy in front of GitHub, so neither JSON nor any of GitHub's headers."""
    return Answer(
        403,
        "\r\nRequest forbidden by administrative rules. Please make sure your request has a User-Agent header "
        f"({DOCS}/en/rest/overview/resources-in-the-rest-api#user-agent-required). Check "
        "https://developer.github.com for other possible causes.\r\n",
        content_type="text/html",
        headers={"Connection": "close"},
    )


def unsupported_version(version: str) -> Answer:
    newest, *older = API_VERSIONS
    supported = f'"{newest}" (most recent) and ' + ", ".join(f'"{each}"' for each in older)
    return message(
        400,
        "Bad Request",
        errors=f'The version you specified in the "X-GitHub-API-Version" request header, "{version}", is not a '
        f"supported version. The following versions are currently supported: {supported}.",
    )


def query_missing() -> Answer:
    return _validation_failed({"resource": "Search", "field": "q", "code": "missing"})


def query_invalid(reason: str) -> Answer:
    return _validation_failed({"message": reason, "resource": "Search", "field": "q", "code": "invalid"})


def _validation_failed(error: Mapping[str, str]) -> Answer:
    return message(422, "Validation Failed", f"{DOCS}/v3/search/", errors=[error])


def past_the_ceiling() -> Answer:
    return message(422, "Only the first 1000 search results are available", f"{DOCS}/v3/search/")


def not_implemented(reason: str) -> Answer:
    """Never GitHub's: the stand-in owns up rather than answering another question."""
    return message(501, f"Not Implemented: {reason}")


def rate_limited(who: str, *, with_token: bool) -> Answer:
    docs = f"{DOCS}/rest/overview/rate-limits-for-the-rest-api"
    if with_token:
        return message(403, f"API rate limit exceeded for {who}.", docs)
    hint = "(But here's the good news: Authenticated requests get a higher rate limit. Check out the documentation "
    return message(403, f"API rate limit exceeded for {who}. {hint}for more details.)", docs)


def results(total: int, items: list[dict[str, Any]]) -> Answer:
    return Answer(200, {"total_count": total, "incomplete_results": False, "items": items})


def github_headers() -> dict[str, str]:
    return {"X-GitHub-Media-Type": "github.v3; format=json", "X-GitHub-Request-Id": _request_id()}


def _request_id() -> str:
    """Unique, in GitHub's form: five groups of hexadecimal digits."""
    digits = uuid4().hex.upper()
    return ":".join((digits[:4], digits[4:9], digits[9:15], digits[15:22], digits[22:30]))


def quota_headers(quota: Quota) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(quota.limit),
        "X-RateLimit-Remaining": str(quota.remaining),
        "X-RateLimit-Reset": str(quota.reset),
        "X-RateLimit-Used": str(quota.used),
        "X-RateLimit-Resource": "search",
    }


def link_header(url: str, query: Mapping[str, str], page: Page, total: int) -> dict[str, str]:
    """The neighbours of a page, in GitHub's order. No header at all where everything fits one page."""
    last = page.last(total)
    related = {}
    if page.number > 1:
        related["prev"] = min(page.number - 1, last)
    if page.number < last:
        related["next"], related["last"] = page.number + 1, last
    if page.number > 1:
        related["first"] = 1
    links = [f'<{url}?{urlencode({**query, "page": str(number)})}>; rel="{name}"' for name, number in related.items()]
    return {"Link": ", ".join(links)} if links else {}
