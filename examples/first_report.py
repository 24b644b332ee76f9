"""The first look: a report on this machine, without any server. Started by `make demo`."""

import os
import subprocess
import sys
from contextlib import ExitStack

import requests

from shared.config import Settings

#: Seconds to wait for a sign of GitHub.
PATIENCE = 5


def main() -> int:
    """Ask for the weekly report in embedded mode; gives the exit status of the command that does."""
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    with ExitStack() as until_done:
        if not reachable(Settings.load(environ).github_api_url):
            from tests.stand_ins.github import GitHubStandIn

            stand_in = until_done.enter_context(GitHubStandIn())
            environ["GITHUB_API_URL"] = stand_in.url
            # Its repositories are not GitHub's, so they must not be taken for those another day.
            environ.setdefault("LOCAL_DIR", ".local/offline")
            print("GitHub cannot be reached from here: a stand-in answers, with repositories of its own.", flush=True)
        print(
            "Embedded: one machine, no server, no dead letters, and a killed worker loses what it held. "
            "`docker compose up -d --wait` starts the real one.",
            flush=True,
        )
        command = [sys.executable, "-m", "celery", "-A", "shared.app", "report", "--period", "week", *sys.argv[1:]]
        return subprocess.run(command, env=environ, check=False).returncode


def reachable(url: str) -> bool:
    """Whether GitHub answers at all."""
    try:
        return requests.get(f"{url}/zen", timeout=PATIENCE).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    sys.exit(main())
