"""Tasks that inherit their caller's scope: scenarios, and notices in the reader's language."""

from services.scoped import notices, scenarios
from services.scoped.app import app
from services.scoped.languages import Language
from shared import scope
from shared.errors import InvalidArguments
from shared.signatures import mailer
from shared.signatures import scoped as contract
from shared.tasks import LoggingTask, ScopedTask, implements


class LoggingScopedTask(ScopedTask, LoggingTask):
    """Both."""

    abstract = True


@implements(contract.read_scenario, app, base=ScopedTask, scope_args=("scenario_id",))
def read_scenario(scenario_id):
    if scenario_id is None:
        raise InvalidArguments("scoped.read_scenario: give scenario_id, or call it inside scope(scenario_id=...)")
    return scenarios.read(scenario_id)


@implements(contract.notify, app, bind=True, base=LoggingScopedTask, scope_args=("locale",))
def notify(task, user, event, locale, **facts):
    language = Language.best(locale)
    subject, text = notices.render(event, facts, language)
    task.log_msg("%s for %s in %s (asked: %s)", event, user, language.locale, locale)
    return task.replace(mailer.send_email([user], subject, text))


@implements(contract.show, app, bind=True)
def show(task, levels):
    return task.replace(contract.show(levels - 1)) if levels else scope.current()
