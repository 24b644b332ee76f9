"""What a row does not say and GitHub does: id, age, topics and the like, derived from the full name alone.

The same name gives the same values in every process, on every machine, for ever. With

    H(label) = blake2b(full_name in UTF-8, digest_size=8, person=label in ASCII) as a big-endian integer

the age of a repository, in whole days before today (UTC), is

    n = H("age") mod 10000,  k = H("age") // 10000

    n in    0 .. 3499   age = k mod 2            today or yesterday
    n in 3500 .. 5999   age = 2 + k mod 5        2 to 6 days: inside a week, however it is counted
    n in 6000 .. 8499   age = 7 + k mod 21       7 to 27 days: inside a month of any length
    n in 8500 .. 9999   age = 32 + k mod 3619    32 to 3,650 days: outside a month of any length

    created_at = (today - age) at 00:00:00Z + s,  s = 0 if age == 0 else H("second") mod 86400

so 35 % are a day old, 60 % at most a week, 85 % at most a month. What was created today was created at midnight,
because any later moment could still lie ahead.

    id = 100,000,000 + H("id") mod 900,000,000, and the next free one where another repository of the set has it
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

TOPICS = (
    "api",
    "awesome-list",
    "automation",
    "background-jobs",
    "celery",
    "cli",
    "cloud-native",
    "compiler",
    "data-science",
    "database",
    "deep-learning",
    "developer-tools",
    "devops",
    "distributed-systems",
    "education",
    "frontend",
    "game-engine",
    "hacktoberfest",
    "image-processing",
    "kubernetes",
    "linux",
    "machine-learning",
    "message-queue",
    "monitoring",
    "natural-language-processing",
    "open-source",
    "privacy",
    "rabbitmq",
    "security",
    "self-hosted",
    "static-site",
    "testing",
    "visualization",
    "web-framework",
)
MOST_TOPICS = 5


def digest(label: str, full_name: str) -> int:
    """H(label) of the formulas above: an integer below 2**64."""
    return int.from_bytes(blake2b(full_name.encode(), digest_size=8, person=label.encode("ascii")).digest(), "big")


def repository_id(full_name: str) -> int:
    return 100_000_000 + digest("id", full_name) % 900_000_000


def age_in_days(full_name: str) -> int:
    k, n = divmod(digest("age", full_name), 10_000)
    if n < 3_500:
        return k % 2
    if n < 6_000:
        return 2 + k % 5
    if n < 8_500:
        return 7 + k % 21
    return 32 + k % 3_619


def created_at(full_name: str, age: int, today: date) -> datetime:
    """The moment of creation (UTC), `age` days before `today` and never after its midnight."""
    second = 0 if age == 0 else digest("second", full_name) % 86_400
    return midnight(today) - timedelta(days=age) + timedelta(seconds=second)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def topics(full_name: str, language: str | None) -> tuple[str, ...]:
    """None to five topics; where there are any, the first names the language."""
    seed = digest("topics", full_name)
    seed, count = divmod(seed, MOST_TOPICS + 1)
    chosen = [language_topic(language)] if language and count else []
    left = list(TOPICS)
    while len(chosen) < count:
        seed, place = divmod(seed, len(left))
        chosen.append(left.pop(place))
    return tuple(chosen)


def language_topic(language: str) -> str:
    """`C++` → `cpp`, `Vim Script` → `vim-script`: GitHub's topics know small letters, digits and dashes."""
    return language.lower().replace("++", "pp").replace("#", "sharp").replace(" ", "-")


def choice(label: str, full_name: str, options: Sequence[T]) -> T:
    return options[digest(label, full_name) % len(options)]
