"""Where the gateway's log goes: to standard error, each record once; errors to the administrators too, by e-mail."""

import logging.config
from typing import Any

from shared.config import Settings


def configuration(settings: Settings) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line"},
            "mail": {
                "class": "shared.error_mail.ErrorMailHandler",
                "level": "ERROR",
                "source": "gateway",
                "settings": settings,
            },
        },
        "loggers": {
            "services.gateway": {"level": settings.log_level, "handlers": ["console", "mail"], "propagate": False}
        },
    }


def configure(settings: Settings) -> None:
    """Begin to log."""
    logging.config.dictConfig(configuration(settings))
