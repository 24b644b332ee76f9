"""Each case as it must go, and as the oracle sees it fail when the guard that it stands on is taken away."""

import random
from pathlib import Path

import pytest

from tests.chaos.cases import CASES, Case, controls, in_lane, played
from tests.chaos.conftest import ASKED, LANE
from tests.chaos.play import play
from tests.chaos.record import Record
from tests.chaos.theatre import Theatre

pytestmark = pytest.mark.containers


@pytest.mark.parametrize("case", played(CASES, ASKED, LANE), ids=lambda case: case.name)
def test_nothing_is_lost(case: Case, theatre: Theatre, chance: random.Random, tmp_path: Path, record: Record) -> None:
    # Given the system as it is shipped, when that is done to it
    verdict = play(case, theatre, chance, tmp_path, record)

    # Then the oracle has nothing to say
    assert verdict.passed, verdict.complaints


@pytest.mark.parametrize("case", in_lane(CASES, ASKED), ids=lambda case: case.name)
def test_nothing_is_lost_in_the_fast_lane(
    case: Case, theatre: Theatre, chance: random.Random, tmp_path: Path, record: Record
) -> None:
    # Given every task in the fast lane, when that is done to the system, then the oracle has nothing to say
    verdict = play(case, theatre, chance, tmp_path, record, lane=True)
    assert verdict.passed, verdict.complaints


@pytest.mark.parametrize("case", controls(CASES, ASKED, LANE), ids=lambda case: case.name)
def test_the_oracle_sees_it_fail(
    case: Case, theatre: Theatre, chance: random.Random, tmp_path: Path, record: Record
) -> None:
    # Given the system without a guard, when the same is done to it
    verdict = play(case, theatre, chance, tmp_path, record, without=case.control.without)

    # Then the oracle sees it
    assert case.control.sees in verdict.kinds(), verdict
