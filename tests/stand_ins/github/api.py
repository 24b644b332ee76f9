"""From a request to GitHub's answer. Knows no sockets and keeps no time but the limits'."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from hashlib import blake2b

from tests.stand_ins.github import answer as say
from tests.stand_ins.github.answer import Answer
from tests.stand_ins.github.item import render
from tests.stand_ins.github.limits import ANONYMOUS, WITH_TOKEN, Quota, RateLimits
from tests.stand_ins.github.query import NotImplementedHere, QueryInvalid
from tests.stand_ins.github.search import CEILING, Catalogue, Page

SEARCH = "/search/repositories"
BAD_TOKEN = "bad-token"
SCHEMES = frozenset({"bearer", "token"})


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in small letters
    address: str  # the client's
    base_url: str  # how the client reached the server, for links


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as limits care. A token is kept as its digest only."""

    name: str
    key: str
    with_token: bool

    @property
    def limit(self) -> int:
        return WITH_TOKEN if self.with_token else ANONYMOUS


class Api:
    def __init__(
        self, catalogue: Catalogue, today: Callable[[], date], limits: RateLimits, reject_tokens: Collection[str] = ()
    ) -> None:
        self._catalogue = catalogue
        self._today = today
        self._limits = limits
        self._rejected = frozenset(reject_tokens) | {BAD_TOKEN, ""}

    def answer(self, request: Request, *, limited: bool) -> Answer:
        """GitHub's answer, in GitHub's order of complaints: a bad token before a wrong version, and so on."""
        if not request.headers.get("user-agent", "").strip():
            return say.no_user_agent()
        headers = say.github_headers()
        caller = self._caller(request)
        if caller is None:
            return _with(say.bad_credentials(), headers)  # not counted, and without limits, as GitHub's
        if request.path != SEARCH or request.method not in ("GET", "HEAD"):
            return _with(say.not_found(), headers)
        quota = self._quota(caller, limited)
        headers |= say.quota_headers(quota)
        version = request.headers.get("x-github-api-version", say.DEFAULT_API_VERSION)
        if version not in say.API_VERSIONS:
            return _with(say.unsupported_version(version), headers)
        headers["X-GitHub-Api-Version-Selected"] = version
        if quota.exceeded:
            return _with(say.rate_limited(caller.name, with_token=caller.with_token), headers)
        return _with(self._search(request), headers)

    def _caller(self, request: Request) -> Caller | None:
        """None where a credential came that GitHub would not know."""
        credential = request.headers.get("authorization")
        if credential is None:
            return Caller(request.address, f"address {request.address}", with_token=False)
        scheme, _, token = credential.partition(" ")
        if scheme.lower() not in SCHEMES or token.strip() in self._rejected:
            return None
        number = int.from_bytes(blake2b(token.strip().encode(), digest_size=4).digest(), "big")
        return Caller(f"user ID {number}", f"token {number}", with_token=True)

    def _quota(self, caller: Caller, limited: bool) -> Quota:
        return self._limits.take(caller.key, caller.limit) if limited else self._limits.unlimited(caller.limit)

    def _search(self, request: Request) -> Answer:
        query = request.query
        q = query.get("q", "").strip()
        if not q:
            return say.query_missing()
        page = Page.of(query)
        if page.start >= CEILING:
            return say.past_the_ceiling()
        try:
            found = self._catalogue.search(q, query.get("sort", ""), query.get("order", ""), self._today())
        except QueryInvalid as reason:
            return say.query_invalid(str(reason))
        except NotImplementedHere as reason:
            return say.not_implemented(str(reason))
        items = [render(each) for each in found[page.start : page.start + page.size]]
        link = say.link_header(request.base_url + SEARCH, query, page, len(found))
        return _with(say.results(len(found), items), link)


def _with(answer: Answer, headers: Mapping[str, str]) -> Answer:
    return replace(answer, headers={**headers, **answer.headers})
