"""What is written of the service `reporter`."""

from shared.spec import Requests, Schedule, ServiceSpec

SPEC = ServiceSpec(
    name="reporter",
    summary="reports of the hottest GitHub repositories",
    # Five pages are fetched at once; children that wait for GitHub cost little.
    concurrency=(6, 12),
    # GitHub may take 30 s to answer, and a task may have to wait for a connection first.
    soft_time_limit=60,
    time_limit=90,
    # The five pages of one report, and the files of all its languages, come at once.
    patience=600,
    # Twelve processes, each with a report's pages: 500 MiB were seen, and 512 MiB were not enough.
    memory=2**30,
    requests=Requests(memory=224 * 2**20),
    scale=(0, 4),
    reports="write",
    calls=("mailer", "webhook"),
    egress=("api.github.com:443",),
    settings=("GITHUB_API_URL", "LOG_LEVEL", "LOG_FORMAT"),
    secrets=("GITHUB_TOKEN",),
    schedules=(Schedule("reporter.produce_report", "0 0 * * *", {"period": "day"}, then="mailer.send_report"),),
)
