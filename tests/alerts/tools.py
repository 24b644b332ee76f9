"""The command-line tools of Prometheus and Alertmanager."""

import shutil
import subprocess
from pathlib import Path

from tests.missing import missing


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a tool of Prometheus says, which must be content."""
    if shutil.which(str(command[0])) is None:
        missing(f"{command[0]} is not installed: apt-get install prometheus prometheus-alertmanager")
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
