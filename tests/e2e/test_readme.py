"""The README's commands, word for word."""

import os
import re
import subprocess

import pytest

from tests.e2e.houses import ROOT, ComposeHouse

README = (ROOT / "README.md").read_text()
BLOCKS = [line for block in re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S) for line in block.splitlines()]
IN_TABLES = re.findall(r"^\| `((?:make|docker compose) [^`]+)` \|", README, re.M)
#: The first is this very run, and the second ends every run.
ELSEWHERE = {"make test", "docker compose down"}
#: In a clean copy: tests/services/test_adding_a_service.py does what its page says, these lines among it.
IN_A_COPY = {line for line in BLOCKS if "thumbnailer" in line}
#: These never end by themselves; other tests run them for a while.
ENDLESS = {
    "make logs SERVICE=reporter",
    "docker compose run --rm cli logs calculator.add -f",
    "docker compose run --rm cli top",
}
COMMANDS = [command for command in [*BLOCKS, *IN_TABLES] if command not in ELSEWHERE | ENDLESS | IN_A_COPY]


def run(command: str) -> "subprocess.CompletedProcess[str]":
    # A person types it in a shell, not below the `make test` that this may be.
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        command,
        shell=True,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_readme_has_commands() -> None:
    assert {*BLOCKS, *IN_TABLES} > ELSEWHERE | ENDLESS
    assert len(COMMANDS) >= 8
    page = (ROOT / "docs/adding-a-service.md").read_text().splitlines()
    assert IN_A_COPY and set(page) >= IN_A_COPY


@pytest.mark.containers
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_does_what_it_says(compose: ComposeHouse, command: str) -> None:
    # Given the cluster, whose name, ports and stand-in for GitHub stand in the environment
    if command.endswith(" ID"):
        called = run("docker compose run --rm cli call calculator.add --args='[1, 2]'").stdout.split()[-1]
        assert run(f"docker compose run --rm cli result {called}").stdout.split()[-1] == "3"
        command = f"{command.removesuffix('ID')}{called}"
    # When somebody types what the README says
    done = run(command)

    # Then it works
    assert done.returncode == 0, done.stderr
    if "report --period" in command or command == "make demo":
        assert done.stdout.strip().splitlines()[-1].endswith(".csv")
    if "--scale" in command:
        assert len(compose.containers("reporter")) == 3
        compose.compose("up", "-d", "--wait", "--no-recreate", "--scale", "reporter=1")


@pytest.mark.containers
def test_make_has_the_cluster_at_hand(compose: ComposeHouse) -> None:
    # When an operator scales a pool, asks for a report and looks at the logs with make
    try:
        assert run("make scale SERVICE=reporter N=2").returncode == 0
        assert len(compose.containers("reporter")) == 2
        assert run("make report PERIOD=week").stdout.strip().endswith(".csv")
    finally:
        assert run("make scale SERVICE=reporter N=1").returncode == 0
    logs = run("timeout 5 make logs SERVICE=reporter").stdout

    # Then it is done
    assert "reporter.build_report" in logs
