"""The stand-in's own routes, for tests that reach it over HTTP only. Neither limited nor recorded."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.stand_ins.github.answer import Answer
from tests.stand_ins.github.faults import FaultError, Faults
from tests.stand_ins.github.limits import RateLimits
from tests.stand_ins.github.record import Record

PREFIX = "/_stand_in/"
HEALTH = "/healthz"
LONGEST_LATENCY = 60.0  # seconds


class SettingError(ValueError):
    """A setting that cannot be. `argument` names it."""

    def __init__(self, argument: str, expected: str) -> None:
        super().__init__(f"{argument}: expected {expected}")
        self.argument = argument


@dataclass(frozen=True, slots=True)
class Settings:
    latency: float = 0.0  # seconds before each answer
    rate_limits: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.latency, bool) or not isinstance(self.latency, int | float):
            raise SettingError("latency", "a number of seconds")
        if not 0 <= self.latency <= LONGEST_LATENCY:
            raise SettingError("latency", f"seconds from 0 to {LONGEST_LATENCY:g}")
        if not isinstance(self.rate_limits, bool):
            raise SettingError("rate_limits", "true or false")


class Control:
    """Faults, the record and the settings of a running stand-in."""

    def __init__(self, settings: Settings, limits: RateLimits) -> None:
        self.settings = settings
        self.faults = Faults()
        self.record = Record()
        self._limits = limits
        self._routes: dict[tuple[str, str], Callable[[dict[str, Any]], Answer]] = {
            ("GET", "faults"): lambda _: Answer(200, self.faults.waiting()),
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): lambda _: self._emptied(self.faults.clear),
            ("GET", "requests"): lambda _: Answer(200, [each.as_json() for each in self.record.all()]),
            ("DELETE", "requests"): lambda _: self._emptied(self.record.clear),
            ("GET", "settings"): lambda _: Answer(200, asdict(self.settings)),
            ("PUT", "settings"): lambda wanted: Answer(200, asdict(self.change(**wanted))),
        }

    def change(self, /, **wanted: Any) -> Settings:
        """Change some settings. The limits' windows start afresh. Raises SettingError."""
        for name in wanted.keys() - asdict(self.settings).keys():
            raise SettingError(name, f"one of {', '.join(asdict(self.settings))}")
        self.settings = replace(self.settings, **wanted)
        self._limits.clear()
        return self.settings

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        if path == HEALTH:
            return Answer(200, {"status": "ok"})
        route = self._routes.get((method, path.removeprefix(PREFIX)))
        if route is None:
            known = ", ".join(f"{verb} {PREFIX}{name}" for verb, name in self._routes)
            return Answer(404, {"message": f"{method} {path} is not among {known}"})
        try:
            return route(_object(body))
        except (FaultError, SettingError) as error:
            return Answer(400, {"message": str(error), "argument": error.argument})

    def _add_fault(self, wanted: dict[str, Any]) -> Answer:
        return Answer(201, self.faults.add(wanted.pop("name", None), **wanted))

    @staticmethod
    def _emptied(clear: Callable[[], None]) -> Answer:
        clear()
        return Answer(200, [])


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object that a request carries; an empty body is an empty one."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise SettingError("body", "JSON") from None
    if not isinstance(value, dict):
        raise SettingError("body", "a JSON object")
    return value
