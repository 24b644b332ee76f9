"""The tour of the canvas is true in the cluster."""

import pytest

from tests.canvas.page import claims, program
from tests.e2e.houses import ComposeHouse


@pytest.mark.containers
def test_the_page_is_true_in_the_cluster(compose: ComposeHouse) -> None:
    done = compose.publisher(program())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok") == claims()
