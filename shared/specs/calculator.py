"""What is written of the service `calculator`."""

from shared.spec import Schedule, ServiceSpec

SPEC = ServiceSpec(
    name="calculator",
    summary="small arithmetic: the first steps of Celery, and every canvas primitive",
    concurrency=(2, 4),
    soft_time_limit=30,
    time_limit=45,
    # Somebody looks at a page meanwhile.
    patience=120,
    memory=384 * 2**20,
    calls=("webhook",),
    settings=("LOG_LEVEL", "LOG_FORMAT"),
    # The example. A tick is worth nothing when the next one is there.
    schedules=(Schedule("calculator.add_days", kwargs={"days": 1}, every=10, expires=10),),
)
