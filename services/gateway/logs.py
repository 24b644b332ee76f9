"""Where the gateway's log goes: to standard error, each record once."""

import logging.config
from typing import Any


def configuration(level: str) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes. Another handler for errors is one line under `handlers`, and its name
    behind `services.gateway`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {"services.gateway": {"level": level, "handlers": ["console"], "propagate": False}},
    }


def configure(level: str) -> None:
    """Begin to log."""
    logging.config.dictConfig(configuration(level))
