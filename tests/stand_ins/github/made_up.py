"""Two thousand rows of a ranking that nobody published, for machines without the real one.

They hold on purpose what trips a reader of reports: every script, emoji, commas, quotes, missing languages and
descriptions, descriptions that a spreadsheet would run as a formula, and stars that several repositories share.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

COUNT = 2_000
NEWEST_COMMIT = datetime(2026, 8, 22, tzinfo=UTC)

OWNERS = (
    "amber-labs",
    "bitgarden",
    "cloudloom",
    "deepforge",
    "elmtree",
    "fjordworks",
    "gridnine",
    "harborsoft",
    "inkwell-io",
    "juniper-dev",
    "kitewing",
    "lumenstack",
    "mossy",
    "northwind-oss",
    "openquarry",
    "pixelmill",
    "quietbyte",
    "rivertools",
    "saltmarsh",
    "tinyforge",
)
FIRST_WORDS = (
    "Async",
    "atomic",
    "awesome",
    "bare",
    "brisk",
    "clear",
    "deep",
    "easy",
    "fast",
    "hyper",
    "lean",
    "micro",
    "Mini",
    "neural",
    "Open",
    "pocket",
    "quiet",
    "rapid",
    "simple",
    "smart",
    "solid",
    "tiny",
    "ultra",
    "vivid",
)
SECOND_WORDS = (
    "agent",
    "badger",
    "broker",
    "cache",
    "canvas",
    "compiler",
    "dash",
    "editor",
    "engine",
    "graph",
    "kit",
    "Lab",
    "lens",
    "mailer",
    "notes",
    "parser",
    "pipeline",
    "queue",
    "router",
    "scheduler",
    "search",
    "shell",
    "vault",
    "Worker",
)
ENDINGS = ("", "", "", "-py", "-rs", ".js", "-go", "_cpp", "-cli", "2")
LANGUAGES = (
    ("Python", 24),
    ("TypeScript", 20),
    ("JavaScript", 14),
    ("Go", 10),
    ("Rust", 10),
    ("", 6),  # GitHub found no language
    ("C++", 6),
    ("Java", 5),
    ("C", 3),
    ("C#", 3),
    ("Jupyter Notebook", 3),
    ("Kotlin", 2),
    ("Swift", 2),
    ("Vim Script", 1),
    ("HTML", 1),
)
SUBJECTS = (
    ("task queues", "файловые очереди", "任务队列", "タスクキュー", "작업 대기열", "طوابير المهام", "कार्य कतार"),
    ("dashboards", "панели мониторинга", "监控面板", "ダッシュボード", "대시보드", "لوحات المتابعة", "डैशबोर्ड"),
    ("language models", "языковые модели", "大语言模型", "言語モデル", "언어 모델", "نماذج اللغة", "भाषा मॉडल"),
    ("static sites", "статические сайты", "静态网站", "静的サイト", "정적 사이트", "مواقع ثابتة", "स्थिर साइटें"),
    ("e-mail", "электронная почта", "电子邮件", "メール", "이메일", "البريد", "ईमेल"),
    ("maps", "карты", "地图", "地図", "지도", "خرائط", "मानचित्र"),
)
SENTENCES = (
    "{0}, done right",
    "A small, fast toolkit for {0}: no dependencies, no surprises",
    'The "{0}" that you wanted, in one file',
    "Everything about {0} 🚀✨",
    "{0} — μ-second latency, naïve API, café-grade docs ☕",
    "Простой инструмент: {1}",
    "轻量级{2}框架，开箱即用",
    "やさしい{3}入門 🍣",
    "{4} 도구 모음",
    "أدوات {5} سريعة",
    "{6} के लिए सरल औज़ार",
    "👩‍💻 {0} for families 👨‍👩‍👧‍👦, teams; and everyone's cat",
    "",  # GitHub's authors leave it out, too
    "=HYPERLINK({0})",
    "+ {0}, now with plugins",
    "- {0} (archived? no)",
    "@{0} maintained by volunteers",
)


def made_up_rows(seed: int) -> Iterator[dict[str, str]]:
    """`COUNT` rows with the columns of a ranking and distinct full names, the same for the same seed."""
    random = Random(seed)
    names = [
        (owner, f"{first}-{second}{ending}")
        for owner in OWNERS
        for first in FIRST_WORDS
        for second in SECOND_WORDS
        for ending in dict.fromkeys(ENDINGS)
    ]
    languages, weights = zip(*LANGUAGES, strict=True)
    for owner, name in random.sample(names, COUNT):
        stars = _stars(random)
        yield {
            "username": owner,
            "repo_name": name,
            "stars": str(stars),
            "forks": str(int(stars * random.uniform(0.02, 0.4))),
            "issues": str(random.randrange(500)),
            "language": random.choices(languages, weights)[0],
            "description": random.choice(SENTENCES).format(*random.choice(SUBJECTS)),
            "last_commit": (NEWEST_COMMIT - timedelta(seconds=random.randrange(10**8))).isoformat(),
        }


def _stars(random: Random) -> int:
    """Few have many. Rounded to two digits, so that the hottest of a day tie and an order needs more than stars."""
    stars = int(10 ** random.uniform(0.5, 5.3))
    unit = 10 ** max(len(str(stars)) - 2, 0)
    return stars // unit * unit
