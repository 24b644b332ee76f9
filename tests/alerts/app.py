"""The calculator's worker with a task that never succeeds."""

from services.calculator.app import app
from shared.errors import Retryable
from shared.tasks import Task


class Later(Retryable):
    """Asked for."""


@app.task(
    name="calculator.again",
    base=Task,
    shared=False,
    autoretry_for=(Later,),
    retry_backoff=False,
    default_retry_delay=0,
    max_retries=3,
)
def again() -> None:
    raise Later("once more")
