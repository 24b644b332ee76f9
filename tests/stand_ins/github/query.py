"""The search language: `q` in, a predicate out.

Source: GitHub Docs, "Searching for repositories" and "Understanding the search syntax".
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Protocol, TypeVar

from tests.stand_ins.github.derived import midnight

LONGEST_TEXT = 256  # characters, qualifiers not counted

TEXT = r'(?:"[^"]*"|[^\s"])'
TERM = re.compile(rf"(?P<minus>-?)(?:(?P<qualifier>[A-Za-z-]+):(?P<value>{TEXT}*)|(?P<word>{TEXT}+))")
RANGE = re.compile(r"(?P<relation>>=|<=|>|<)?(?P<operand>.+)")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?P<time>T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)

# Known to GitHub and not to the stand-in. Ignoring one would answer another question than the one that was asked.
BEYOND = frozenset(
    {"archived", "followers", "fork", "forks", "good-first-issues", "help-wanted-issues", "in", "is", "license"}
    | {"mirror", "org", "props", "pushed", "repo", "size", "sponsorable", "template", "topics", "user"}
)
OPERATORS = frozenset({"AND", "OR", "NOT"})


class QueryInvalid(ValueError):
    """GitHub, too, would refuse this query (422)."""


class NotImplementedHere(ValueError):
    """GitHub would answer this query; the stand-in cannot (501)."""


class Candidate(Protocol):
    """What a predicate looks at."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str | None: ...
    @property
    def language(self) -> str | None: ...
    @property
    def topics(self) -> tuple[str, ...]: ...
    @property
    def stars(self) -> int: ...


Predicate = Callable[[Candidate, datetime], bool]  # the repository, and when it was created


@dataclass(frozen=True, slots=True)
class Query:
    words: tuple[str, ...]
    predicates: tuple[Predicate, ...]

    def matches(self, candidate: Candidate, created_at: datetime) -> bool:
        return all(holds(candidate, created_at) for holds in self.predicates)

    def named_by(self, candidate: Candidate) -> bool:
        """Whether the words stand in the name, which makes a better match than the description."""
        return all(word in candidate.name.lower() for word in self.words)


def parse(q: str) -> Query:
    """The query that `q` says. Raises QueryInvalid or NotImplementedHere."""
    words: list[str] = []
    predicates: list[Predicate] = []
    languages: set[str] = set()
    ranges: set[str] = set()
    for term in TERM.finditer(q):
        value, negated = (term["value"] or "").replace('"', ""), bool(term["minus"])
        qualifier = (term["qualifier"] or "").lower()
        if qualifier in BEYOND or term["word"] in OPERATORS:
            raise NotImplementedHere(f"the stand-in does not implement {term[0]!r}")
        if qualifier == "language" and not negated:
            languages.add(_language(value))  # several languages mean any of them
        elif qualifier in QUALIFIERS:
            if qualifier in RANGED and qualifier in ranges:
                raise NotImplementedHere(f"the stand-in does not implement {qualifier!r} twice in a query")
            ranges.add(qualifier)
            predicates.append(_negate(QUALIFIERS[qualifier](value), negated))
        else:
            word = term[0].removeprefix("-").replace('"', "").lower()  # with its colon, if that was no qualifier
            predicates.append(_negate(_word(word), negated))
            words.extend([] if negated else [word])
    if len(" ".join(words)) > LONGEST_TEXT:
        raise QueryInvalid(f"The search is longer than {LONGEST_TEXT} characters.")
    if languages:
        predicates.append(_languages(frozenset(languages)))
    return Query(tuple(words), tuple(predicates))


def _negate(predicate: Predicate, negated: bool) -> Predicate:
    return (lambda candidate, created_at: not predicate(candidate, created_at)) if negated else predicate


def _word(word: str) -> Predicate:
    return lambda candidate, _: word in candidate.name.lower() or word in (candidate.description or "").lower()


def _language(value: str) -> str:
    return value.lower().replace("-", " ")


def _languages(wanted: Iterable[str]) -> Predicate:
    return lambda candidate, _: candidate.language is not None and _language(candidate.language) in wanted


def _topic(value: str) -> Predicate:
    return lambda candidate, _: value.lower() in candidate.topics


def _stars(value: str) -> Predicate:
    low, high = _interval(value, _number, -inf, inf)
    return lambda candidate, _: low <= candidate.stars < high


def _created(value: str) -> Predicate:
    low, high = _interval(value, _moment, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    return lambda _, created_at: low <= created_at < high


RANGED: dict[str, Callable[[str], Predicate]] = {"created": _created, "stars": _stars}
QUALIFIERS: dict[str, Callable[[str], Predicate]] = {
    **RANGED,
    "language": lambda value: _languages({_language(value)}),
    "topic": _topic,
}

T = TypeVar("T")


def _interval(value: str, parse_one: Callable[[str], tuple[T, T]], least: T, most: T) -> tuple[T, T]:
    """The half-open interval that a value means, in any of GitHub's forms.

    `parse_one` gives the interval of a single value: a day is 24 hours long, a second one second, a number one.
    """
    first, dots, last = value.partition("..")
    if dots:
        return (least if first == "*" else parse_one(first)[0], most if last == "*" else parse_one(last)[1])
    found = RANGE.fullmatch(value)
    if found is None:
        return parse_one(value)  # an empty value: let it say what it wants
    start, end = parse_one(found["operand"])
    match found["relation"]:
        case ">=":
            return start, most
        case ">":
            return end, most
        case "<=":
            return least, end
        case "<":
            return least, start
    return start, end


def _number(text: str) -> tuple[float, float]:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise QueryInvalid(f'"{text}" is not a number.')
    return int(text), int(text) + 1


def _moment(text: str) -> tuple[datetime, datetime]:
    try:
        found = MOMENT.fullmatch(text)
        if found is None:
            raise ValueError
        moment = datetime.fromisoformat(text)
        if not found["time"]:
            return midnight(moment.date()), midnight(moment.date()) + timedelta(days=1)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment, moment + timedelta(seconds=1)
    except (ValueError, OverflowError):
        raise QueryInvalid(
            f'"{text}" is not a recognized date/time format. Please provide an ISO 8601 date/time value, such as '
            "YYYY-MM-DD."
        ) from None
