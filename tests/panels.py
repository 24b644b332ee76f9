"""The committed dashboards' panels and their queries, as Grafana would ask them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "compose" / "grafana" / "dashboards"
#: What stands for Grafana's variables; a dashboard has no other.
VARIABLES = {"$__rate_interval": "5m"}


@dataclass(frozen=True)
class Asked:
    """A query of a panel.

    Attributes:
        dashboard: its file's name, without `.json`.
        row: the title above it.
        panel: its title.
        letter: of the query in its panel.
        expression: PromQL, without variables.
    """

    dashboard: str
    row: str
    panel: str
    letter: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.row} / {self.panel} {self.letter}"


def dashboards() -> dict[str, dict[str, Any]]:
    """By the names of their files."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def asked() -> list[Asked]:
    """Every query of every panel."""
    found = []
    for name, dashboard in dashboards().items():
        row = ""
        for panel in dashboard["panels"]:
            if panel["type"] == "row":
                row = panel["title"]
                continue
            for target in panel["targets"]:
                expression = target["expr"]
                for variable, value in VARIABLES.items():
                    expression = expression.replace(variable, value)
                assert "$" not in expression, expression
                found.append(Asked(name, row, panel["title"], target["refId"], expression))
    return found
