"""A dashboard as a value, and as Grafana's JSON.

Source of the form: Grafana, "Dashboard JSON model". Ids and places follow from the order alone, so that the same
dashboard is the same file.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: The source that compose/grafana/provisioning names.
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
#: The form that is written; Grafana brings an older one up to its own.
SCHEMA_VERSION = 39
#: Columns of Grafana's grid.
COLUMNS = 24
#: All of ours have it, and each links to the others by it.
TAG = "taskhouse"
#: Where compose publishes them unless told otherwise.
GATEWAY_URL, FLOWER_URL = "http://localhost:8000", "http://localhost:5555"

#: Units, as Grafana calls them.
Unit = Literal["short", "s", "bytes", "percentunit", "ops", "none"]
#: Colours from a value on.
Steps = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Query:
    """One of a panel's.

    Attributes:
        expression: PromQL.
        legend: what its series are called, `{{label}}` for a label's value.
    """

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A graph over time, or the latest value with a small one.

    Attributes:
        title: one or two words.
        about: what it shows, and what to do about it.
        unit: of its values.
        queries: at least one.
        kind: `timeseries`, or `stat` for the latest value.
        width: columns of 24.
        most: the end of the scale; None where the values say it.
        steps: from which value on it has another colour.
        link: address of what a click on its title leads to.
    """

    title: str
    about: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    most: float | None = None
    steps: Steps = ()
    link: str = ""

    @property
    def height(self) -> int:
        """Rows of the grid."""
        return 4 if self.kind == "stat" else 8


@dataclass(frozen=True)
class Row:
    """Panels below a title. They are placed from left to right, and are of one height."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page.

    Attributes:
        uid: part of its address.
        title: what it is called in lists.
        about: what it is for.
        rows: from the top.
    """

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]

    @property
    def url(self) -> str:
        """On the same server."""
        return address(self.uid)

    def render(self) -> str:
        """The file."""
        document = {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "timezone": "browser",
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            # One line at the same moment in each graph.
            "graphTooltip": 1,
            "templating": {"list": []},
            "annotations": {"list": []},
            "links": _links(),
            "panels": list(_placed(self.rows)),
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def address(uid: str) -> str:
    """Of a dashboard, on the same server."""
    return f"/d/{uid}"


def _links() -> list[dict[str, Any]]:
    pages = {"type": "dashboards", "title": "Dashboards", "tags": [TAG], "asDropdown": True, "keepTime": True}
    others = {"Gateway": GATEWAY_URL, "Flower": FLOWER_URL}
    return [
        pages,
        *({"type": "link", "title": name, "url": url, "targetBlank": True} for name, url in others.items()),
    ]


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top += 1
        left, height = 0, row.panels[0].height
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + height
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left += panel.width
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "links": [{"title": "More", "url": panel.link}] if panel.link else [],
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or panel.title,
                "range": True,
            }
            for number, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps = [{"value": None, "color": "green"}, *({"value": value, "color": color} for value, color in panel.steps)]
    return {
        "unit": panel.unit,
        "min": 0,
        **({"max": panel.most} if panel.most is not None else {}),
        # A counter is there when something was counted.
        "noValue": "0",
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        **({"custom": {"fillOpacity": 10, "showPoints": "never"}} if panel.kind == "timeseries" else {}),
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {
            "graphMode": "area",
            "colorMode": "value",
            "textMode": "auto" if len(panel.queries) > 1 else "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
