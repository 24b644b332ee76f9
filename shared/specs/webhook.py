"""What is written of the service `webhook`."""

from shared.spec import ServiceSpec

SPEC = ServiceSpec(
    name="webhook",
    summary="outcomes by HTTP, for callers who speak nothing else",
    concurrency=(2, 8),
    soft_time_limit=60,
    time_limit=90,
    memory=384 * 2**20,
    # Any host that CALLBACK_HOSTS lists.
    egress=("*:443",),
    settings=("CALLBACK_HOSTS", "CALLBACK_NETWORKS", "LOG_LEVEL", "LOG_FORMAT"),
    secrets=("CALLBACK_SECRET",),
)
