"""The GitHub stand-in, steered from outside over HTTP, wherever it runs."""

from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT = 10


@dataclass(frozen=True)
class StandIn:
    """A running stand-in at `url`."""

    url: str

    def fault(self, name: str, **arguments: Any) -> None:
        """Have it misbehave: `times`, `page` and the fault's own arguments as its README says."""
        requests.post(
            f"{self.url}/_stand_in/faults", json={"name": name, **arguments}, timeout=TIMEOUT
        ).raise_for_status()

    def settings(self, **settings: Any) -> None:
        """Change `latency` (seconds) or `rate_limits`."""
        requests.put(f"{self.url}/_stand_in/settings", json=settings, timeout=TIMEOUT).raise_for_status()

    def reset(self) -> None:
        """No faults, no latency, no limits, nothing recorded."""
        for what in ("faults", "requests"):
            requests.delete(f"{self.url}/_stand_in/{what}", timeout=TIMEOUT).raise_for_status()
        self.settings(latency=0, rate_limits=False)

    def requests(self) -> list[dict[str, Any]]:
        """What was asked since the last reset, in order of arrival: `path`, `query`, `started`, `ended`, `status`, …"""
        answer = requests.get(f"{self.url}/_stand_in/requests", timeout=TIMEOUT)
        answer.raise_for_status()
        return sorted(answer.json(), key=lambda record: record["started"])

    def pages(self) -> list[int]:
        """The pages asked for since the last reset."""
        return [_page(record) for record in self.requests()]

    def asked_for(self, page: int) -> list[dict[str, Any]]:
        """The requests for one page."""
        return [record for record in self.requests() if _page(record) == page]

    def search(self, since: str, page: int, per_page: int = 100) -> list[dict[str, Any]]:
        """A page as GitHub gives it, asked by the test itself."""
        answer = requests.get(
            f"{self.url}/search/repositories",
            params={
                "q": f"created:>={since}",
                "sort": "stars",
                "order": "desc",
                "page": str(page),
                "per_page": str(per_page),
            },
            headers={"User-Agent": "the-test-itself"},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return answer.json()["items"]


def _page(record: dict[str, Any]) -> int:
    query = record["query"]
    value = query["page"]
    return int(value[0] if isinstance(value, list) else value)
