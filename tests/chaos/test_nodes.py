"""The cases that need a broker of three nodes, compose/cluster.yaml; else as in test_cases.py."""

import random
from pathlib import Path

import pytest

from tests.chaos.cases import NODES, Case, controls, played
from tests.chaos.conftest import ASKED, LANE
from tests.chaos.play import play
from tests.chaos.record import Record
from tests.chaos.theatre import Theatre

pytestmark = pytest.mark.containers


@pytest.mark.parametrize("case", played(NODES, ASKED, LANE), ids=lambda case: case.name)
def test_nothing_is_lost(case: Case, nodes: Theatre, chance: random.Random, tmp_path: Path, record: Record) -> None:
    # Given three nodes, when that is done to them
    verdict = play(case, nodes, chance, tmp_path, record)

    # Then the oracle has nothing to say
    assert verdict.passed, verdict.complaints


@pytest.mark.parametrize("case", controls(NODES, ASKED, LANE), ids=lambda case: case.name)
def test_the_oracle_sees_it_fail(
    case: Case, nodes: Theatre, chance: random.Random, tmp_path: Path, record: Record
) -> None:
    # Given three nodes and no guard, when the same is done to them
    verdict = play(case, nodes, chance, tmp_path, record, without=case.control.without)

    # Then the oracle sees it
    assert case.control.sees in verdict.kinds(), verdict
