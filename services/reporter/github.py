"""GitHub's search, one page at a time: what it answers, or an error that says whether to ask again."""

import json
import logging
import os
import random
import time
from contextlib import suppress
from datetime import UTC, date
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from pydantic import AwareDatetime, BaseModel, Field, NonNegativeInt, ValidationError
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, RequestException

from shared.errors import ConfigError, Final, Retryable
from shared.metrics.declared import GITHUB_QUOTA
from shared.signatures.reporter import Page, Repo

logger = logging.getLogger(__name__)

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "taskhouse"}
#: Seconds to connect, and seconds between two bytes of the answer.
TIMEOUT = (5, 30)
#: Connections that are kept open: as many as one process has threads, so that none waits or is opened for one request.
POOL_SIZE = 12
MAX_REDIRECTS = 5
#: Seconds to wait where GitHub limits the rate and does not say for how long: "at least one minute".
#: Source: GitHub, Best practices for using the REST API, Handle rate limit errors appropriately.
UNNAMED_WAIT = 60
#: Seconds. GitHub's longest window is an hour; a longer wait is a mistake of somebody's clock.
LONGEST_WAIT = 3600
#: Characters of a message: it goes into logs, results and dead letters.
LONGEST_MESSAGE = 300


class Unavailable(Retryable):
    """GitHub was not reached, broke off, or failed on its side."""


class Malformed(Unavailable):
    """GitHub answered, but not what it documents: cut off, or from a proxy on the way."""


class RateLimited(Retryable):
    """GitHub limits the rate; `retry_after` is always set."""


class Refused(Final):
    """GitHub will not answer this search, however often it is asked."""


class _Item(Repo):
    """A repository as GitHub spells it, and stricter: what GitHub always knows must be there."""

    url: str = Field(alias="html_url")
    stars: NonNegativeInt = Field(alias="stargazers_count")
    forks: NonNegativeInt = Field(alias="forks_count")
    created_at: AwareDatetime


class _Answer(BaseModel):
    incomplete_results: bool
    items: list[_Item]

    def page(self, number: int) -> Page:
        repos = [Repo(**item.model_dump()) for item in self.items]
        return Page(number=number, repos=repos, incomplete=self.incomplete_results)


class _Bearer(requests.auth.AuthBase):
    """Signs a request with the token, or with nothing.

    Not a header of the session: requests would let a `.netrc` win over that, and a header shows where a session's
    attributes are printed. A redirect to another host loses it.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class GitHub:
    """A client of one GitHub, safe to share between threads and to make before a fork.

    Args:
        url: of the REST API: `https://api.github.com`, or `https://<host>/api/v3` of a GitHub Enterprise Server.
        token: raises the limit from 10 to 30 searches a minute; it appears in no message, log record or repr.

    Raises:
        ConfigError: either cannot be used. The message names the variable that it comes from.
    """

    def __init__(self, url: str = "https://api.github.com", token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigError("GITHUB_API_URL must be http(s)://<host>, without a user; the token is GITHUB_TOKEN")
        token = (token or "").strip()
        # Checked here, because the HTTP library would quote it in its complaint.
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError("GITHUB_TOKEN has a character that no token has: copy it again")
        self._search_url = f"{url.rstrip('/')}/search/repositories"
        self._auth = _Bearer(token)
        self._sessions: dict[int, requests.Session] = {}

    def search(self, since: date, *, per_page: int, page: int) -> Page:
        """One page of the repositories created on or after `since`, most starred first.

        Args:
            per_page: 1 to 100.
            page: counted from 1. GitHub refuses what lies past the first 1000 repositories.

        Raises:
            RateLimited: ask again after `retry_after` seconds.
            Unavailable: GitHub is away, or answered nonsense (Malformed).
            Refused: final: the search, the token or the address is wrong.
        Source: GitHub REST API, search/repositories.
        """
        query = {"q": f"created:>={since.isoformat()}", "sort": "stars", "order": "desc", "per_page": str(per_page)}
        response = self._get({**query, "page": str(page)}, page)
        left = response.headers.get("X-RateLimit-Remaining", "unknown")
        if left.isdecimal():
            GITHUB_QUOTA.set(float(left))
        logger.debug("GitHub answered page %d with %d; requests left: %s", page, response.status_code, left)
        if response.status_code != 200:
            raise _refusal(response, page)
        try:
            return _Answer.model_validate_json(response.content, strict=True).page(page)
        except ValidationError as error:
            raise Malformed(_shorten(f"Page {page}: GitHub answered 200, but {_explain(error)}")) from None

    def _get(self, parameters: dict[str, str], page: int) -> requests.Response:
        try:
            return self._session().get(self._search_url, params=parameters, timeout=TIMEOUT)
        except requests.Timeout:
            raise Unavailable(f"Page {page}: GitHub did not answer in time") from None
        except (requests.ConnectionError, ChunkedEncodingError, ContentDecodingError) as error:
            raise Unavailable(_shorten(f"Page {page}: the connection to GitHub failed: {_cause(error)}")) from error
        except (RequestException, ValueError) as error:  # Redirects that do not end, or lead to what is no URL.
            raise Refused(f"Page {page}: no answer ({type(error).__name__}): check GITHUB_API_URL") from error

    def _session(self) -> requests.Session:
        # One a process, made at its first request: two processes must not share a socket. `setdefault` is atomic, and
        # a session that loses the race has no connection yet.
        process = os.getpid()
        return self._sessions.get(process) or self._sessions.setdefault(process, self._open())

    def _open(self) -> requests.Session:
        session = requests.Session()
        session.headers.update(HEADERS)
        session.auth = self._auth
        # No cookies: they are the one thing that threads would share and change.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.max_redirects = MAX_REDIRECTS
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE))
        return session

    def __repr__(self) -> str:
        return f"<GitHub {self._search_url}>"


def _refusal(response: requests.Response, page: int) -> Retryable | Refused:
    """What an answer other than 200 means for whoever asked."""
    status = response.status_code
    said = _message(response)
    hint = "check GITHUB_TOKEN: " if status == 401 else ""
    text = _shorten(f"Page {page}: GitHub answered {status}: {hint}{said}")
    if status >= 500:
        return Unavailable(text, _bounded(_named_wait(response)))
    if status == 429 or (status == 403 and (_named_wait(response) is not None or "rate limit" in said.lower())):
        # Up to a second later than it has to be: never early, and pages that were limited together part ways.
        wait = _bounded(_named_wait(response)) or UNNAMED_WAIT
        return RateLimited(text, wait + random.uniform(0.1, 1))
    return Refused(text)


def _named_wait(response: requests.Response) -> float | None:
    """Seconds until GitHub will answer again, where the response says so; can be negative or very large."""
    headers = response.headers
    # Both clocks are GitHub's where it tells its own; ours may be wrong by minutes.
    now = _http_date(headers.get("Date", "")) or time.time()
    retry_after = headers.get("Retry-After", "").strip()
    if retry_after.isdecimal():
        return float(retry_after)
    if moment := _http_date(retry_after):
        return moment - now
    if headers.get("X-RateLimit-Remaining", "").strip() == "0":
        reset = headers.get("X-RateLimit-Reset", "").strip()
        return float(reset) - now if reset.isdecimal() else UNNAMED_WAIT
    return None


def _bounded(wait: float | None) -> float | None:
    return None if wait is None else min(max(wait, 1.0), float(LONGEST_WAIT))


def _http_date(text: str) -> float | None:
    """Seconds since the epoch, or None where the text is no date."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _message(response: requests.Response) -> str:
    """What GitHub says of its refusal, with the details of each error; the status in words where it says nothing."""
    body: Any = None
    # Not JSON: a page of HTML from whatever stands in front of GitHub, and nothing for a log.
    with suppress(ValueError, RecursionError):
        body = json.loads(response.content)
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return response.reason or "no reason given"
    errors = body.get("errors") or []
    return "; ".join([body["message"], *map(_detail, errors if isinstance(errors, list) else [errors])])


def _detail(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    where = ".".join(str(error[key]) for key in ("resource", "field") if error.get(key))
    what = str(error.get("message") or error.get("code") or "not valid")
    return f"{where}: {what}" if where else what


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def _cause(error: BaseException) -> str:
    """The system's own words for a broken connection, from under the layers of the HTTP libraries."""
    found = type(error).__name__
    cause: BaseException | None = error
    while cause:
        found = getattr(cause, "strerror", None) or found
        cause = cause.__cause__ or cause.__context__
    return found


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"
