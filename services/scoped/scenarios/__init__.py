"""Prepared situations, a JSON file each, named by its number."""

from pathlib import Path

from shared.errors import Final
from shared.signatures.scoped import Scenario

FOLDER = Path(__file__).parent


class UnknownScenario(Final):
    """There is no file with this number. The message names those that there are."""


def read(scenario_id: int) -> Scenario:
    """The scenario with this number.

    Raises:
        UnknownScenario: there is none.
    """
    try:
        return Scenario.model_validate_json((FOLDER / f"{scenario_id}.json").read_bytes())
    except FileNotFoundError:
        known = ", ".join(str(number) for number in sorted(int(path.stem) for path in FOLDER.glob("*.json")))
        raise UnknownScenario(f"there is no scenario {scenario_id}: choose one of {known}") from None
