"""What a mailer process holds, made at its first use: a connection must not cross a fork."""

import os
import tempfile
from functools import cache
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from services.mailer.app import app
from services.mailer.delivery import Delivery
from services.mailer.ledger_redis import RedisLedger
from services.mailer.ledger_sqlite import SqliteLedger
from services.mailer.storm import Guard, Limits
from services.mailer.storm_redis import RedisStorm
from services.mailer.storm_sqlite import SqliteStorm
from services.mailer.transport import transport
from shared import tls
from shared.storage import Storage

#: Seconds to connect to Redis, and for each of its answers.
REDIS_TIMEOUT = 3.0


@cache
def delivery() -> Delivery:
    """How this process sends."""
    settings = app.settings
    local = SqliteLedger(_folder() / "ledger.sqlite")
    return Delivery(
        transport(settings),
        local if settings.embedded else RedisLedger(_redis()),
        None if settings.embedded else local,
        Storage(settings.reports_location),
        sender=settings.mail_from,
        lease=settings.mail_lease,
        attachments_limit=settings.attachments_limit,
    )


@cache
def guard() -> Guard:
    """How this process holds back."""
    settings = app.settings
    limits = Limits(settings.error_window, settings.errors_per_hour)
    local = SqliteStorm(_folder() / "storm.sqlite")
    return Guard(local, None, limits) if settings.embedded else Guard(RedisStorm(_redis()), local, limits)


@cache
def _redis() -> Redis:
    return Redis.from_url(
        app.settings.redis_location(),
        **tls.redis_options(app.settings),
        socket_connect_timeout=REDIS_TIMEOUT,
        socket_timeout=REDIS_TIMEOUT,
        # One more attempt, for a connection that was closed while idle. Every script can be run twice.
        retry=Retry(ConstantBackoff(0.1), 1),
    )


def _folder() -> Path:
    """Where this machine's own records lie: in a cluster they only bridge the time without Redis."""
    if app.settings.embedded:
        return app.settings.local_dir / "mail" / "records"
    return Path(tempfile.gettempdir()) / f"mailer-{os.geteuid()}"
