"""What is written of the service `scoped`."""

from shared.spec import ServiceSpec

SPEC = ServiceSpec(
    name="scoped",
    summary="tasks that inherit their caller's scope: scenarios, notices in the reader's language",
    concurrency=(2, 4),
    soft_time_limit=30,
    time_limit=45,
    # Somebody looks at a page meanwhile.
    patience=120,
    memory=384 * 2**20,
    calls=("mailer", "webhook"),
    settings=("LOG_LEVEL", "LOG_FORMAT"),
)
