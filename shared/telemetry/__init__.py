"""OpenTelemetry, by one switch: with `OTEL_EXPORTER_OTLP_ENDPOINT` spans of publishes and runs go to a collector.

`connect` is all that others call. Without the switch nothing of OpenTelemetry is imported.
"""

from typing import Any

from shared.config import Settings
from shared.errors import ConfigError


def connect(settings: Settings, service: str) -> Any:
    """What makes the spans of this process, `shared.telemetry.spans.Spans`; None where the switch is off.

    Args:
        service: the name under which they are shown, unless `OTEL_SERVICE_NAME` says another one.

    Raises:
        ConfigError: the packages are missing.
    """
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    try:
        from shared.telemetry.spans import Spans
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT needs a package ({error.name}): pip install 'taskhouse[otel]'"
        ) from None
    return Spans(settings, service)
