"""Clean copies of this repository, in which a service can be added and removed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Later than any file: `make` takes this environment as it is.
NEVER_OLD = 2**31 - 1


class Copy:
    """The files that git has, or would have, in a repository of their own with one commit.

    Attributes:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
            # Listed, and removed by hand since.
            if name and (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        # The environment of this process: `make` would make another.
        environment = root / ".venv"
        environment.mkdir()
        for part in Path(sys.prefix).iterdir():
            if part.name != "ready":
                (environment / part.name).symlink_to(part)
        (environment / "ready").touch()
        os.utime(environment / "ready", (NEVER_OLD, NEVER_OLD))
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it is"]):
            identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
            subprocess.run(["git", *identity, *command], cwd=root, check=True)

    def run(self, *command: str, timeout: float = 120, environ: Mapping[str, str] | None = None) -> str:
        """What `command` prints; raises CalledProcessError with both outputs where it fails."""
        done = self.attempt(*command, timeout=timeout, environ=environ)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def attempt(
        self, *command: str, timeout: float = 120, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run `command` there, however it ends."""
        return subprocess.run(
            command,
            cwd=self.root,
            # This tree's modules, not those of the one that the environment was made for.
            env={**os.environ, "PYTHONPATH": str(self.root), **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def changes(self) -> str:
        """What git says has changed since the commit."""
        return self.run("git", "status", "--porcelain", "--untracked-files=all")
