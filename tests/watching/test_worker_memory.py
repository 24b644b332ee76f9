"""What the processes of a pool share, and how much each of them has for itself."""

import re
from pathlib import Path

import pytest

from tests.watching.house import House

pytestmark = pytest.mark.containers

PROCESSES = 4
#: Of what a process of the pool holds, how much may be its own. A sixth is, and half where something copies the rest.
OWN_AT_MOST = 1 / 3


def test_the_processes_of_a_pool_share_what_was_there_before_them(house: House) -> None:
    # Given an idle worker, and each process of its pool
    house.start(concurrency=PROCESSES)
    pid = house.worker.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == PROCESSES
    for child in children:
        # Then what is its own is little beside what it shares
        told = Path(f"/proc/{child}/smaps_rollup").read_text()
        kib = {name: int(amount) for name, amount in re.findall(r"^(\w+): +(\d+) kB$", told, re.MULTILINE)}
        assert kib["Private_Dirty"] < kib["Rss"] * OWN_AT_MOST, kib
