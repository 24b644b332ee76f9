"""What several tests of an app begin with."""

import pytest

from tests.unit.app.recording import RecordingProducer


@pytest.fixture
def producer() -> RecordingProducer:
    return RecordingProducer()


@pytest.fixture(params=["cluster", "embedded"])
def settings(request: pytest.FixtureRequest, cluster: dict[str, str]) -> dict[str, str]:
    """The settings of each mode."""
    return cluster if request.param == "cluster" else {}
