"""What is written of the service `mailer`."""

from shared.spec import Schedule, ServiceSpec

SPEC = ServiceSpec(
    name="mailer",
    summary="e-mail: error reports to the administrators, digests, notices",
    concurrency=(2, 4),
    # SMTP_TIMEOUT bounds each answer of the mail server; a mail takes about ten of them.
    soft_time_limit=120,
    time_limit=150,
    # Never none: a report of an error should not wait for a container to start.
    scale=(1, 5),
    # It attaches them.
    reports="read",
    calls=("webhook",),
    # Any host, SMTP_URL names it; these are the ports of SMTP.
    egress=("*:25", "*:465", "*:587"),
    settings=("SMTP_URL", "MAIL_FROM", "ADMINS", "ERROR_WINDOW", "ERRORS_PER_HOUR", "LOG_LEVEL", "LOG_FORMAT"),
    secrets=("SMTP_PASSWORD",),
    schedules=(Schedule("mailer.send_digest", "0 * * * *", {"window": "1h"}, expires=3600),),
    local={"SMTP_URL": "smtp://mailcatcher:1025"},
    # Mail that was parked for review is found by the beginning of its key.
    scans_keys=True,
)
