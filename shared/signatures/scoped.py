"""The tasks of `scoped`: what they need and are not told, they find in their caller's scope."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from shared import mail_text
from shared.signatures.declaration import signature
from shared.signatures.mailer import MailResult
from shared.signatures.reporter import Value

#: Languages that there are words for. A test holds it against the catalogues.
LANGUAGES = ("de", "en", "fr", "ja", "kk", "ru")
#: Characters of a language tag. Source: RFC 5646, section 4.4.1.
LONGEST_TAG = 35

#: A language, with a script or a region where that matters: `fr`, `de-AT`, `zh_Hans`. Unknown ones fall back.
LocaleTag = Annotated[str, Field(max_length=LONGEST_TAG)]
Event = Literal["report_ready", "quota_low"]
Fact = int | float | date | str
ScenarioId = Annotated[int, Field(ge=1)]


class Scenario(Value):
    """A prepared situation.

    Attributes:
        id: its number, which names its file.
        title: for people.
        steps: what is done in it, in order.
        facts: what is given.
    """

    id: int
    title: str
    steps: list[str]
    facts: dict[str, Any] = Field(default_factory=dict)


@signature("scoped.read_scenario", keeps_result=True)
def read_scenario(scenario_id: ScenarioId | None = None) -> Scenario:
    """The scenario with this number; unless given, with the `scenario_id` of the scope.

    Raises UnknownScenario where there is none, and InvalidArguments where neither says which.
    """


@signature("scoped.notify", keeps_result=True)
def notify(
    user: Annotated[str, AfterValidator(mail_text.address)],
    event: Event,
    locale: LocaleTag | None = None,
    **facts: Fact,
) -> MailResult:
    """Mail `user` that `event` has happened, in the language `locale`: unless given, that of the scope, else English.

    Facts: `report_ready` takes `repositories` and `ref_date`; `quota_low` takes `left` and `until`. The task is
    replaced by `mailer.send_email`, so its own id answers with what became of the mail.
    """


@signature("scoped.show", keeps_result=True)
def show(levels: Annotated[int, Field(ge=0, le=10)] = 0) -> dict[str, Any]:
    """The scope in force, seen so many calls from task to task below this one."""
