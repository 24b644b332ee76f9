"""The comparison of peers: its page, its picture, and that one line of it can be measured."""

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.peers import report
from bench.peers.measure import Figure
from bench.peers.peer import Peer
from tests.conftest import needs_docker
from tests.missing import missing

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache" / "venv-bench" / "bin" / "python"

PEERS = [
    Peer("taskhouse, fast lane", "our_peer", "", "rabbitmq", ("nothing",)),
    Peer("Celery, solo", "celery_peer", "", "rabbitmq", ("nothing",), note="as it is"),
    Peer("not measured", "x_peer", "", "rabbitmq", ("nothing",)),
]
FIGURES = {
    ("taskhouse, fast lane", "nothing", "quorum"): [Figure(value, 2**26) for value in (35_000.0, 30_000.0, 40_000.0)],
    ("Celery, solo", "nothing", "quorum"): [Figure(value, 2**27) for value in (7_000.0, 8_000.0, 6_000.0)],
}


def test_the_page_gives_median_spread_ratio_and_memory() -> None:
    text = report.page(FIGURES, PEERS, rounds=3, short=False, seconds=600.0, versions="celery 5.7.0")
    assert "## Tasks that do nothing, a second: quorum" in text
    assert "| taskhouse, fast lane | 35,000 (30,000, 40,000) | 5.00 | 64 MiB |" in text
    assert "| Celery, solo (as it is) | 7,000 (6,000, 8,000) | 1.00 | 128 MiB |" in text
    assert "not measured" not in text and "short run" not in text


def test_the_picture_has_a_bar_for_each_and_the_longest_first() -> None:
    picture = ElementTree.fromstring(report.chart(FIGURES, PEERS, "nothing", "quorum"))
    bars = [float(one.attrib["width"]) for one in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) == 2 and bars[0] == pytest.approx(5 * bars[1])


@pytest.mark.long
@pytest.mark.containers
def test_one_line_can_be_measured_again() -> None:
    """Where the environment of the bench is there."""
    needs_docker()
    if not PYTHON.exists():
        missing("the environment of the bench is not there: make bench SHORT=1 makes it")
    asked = ["--short", "--rounds", "1", "--only", "dramatiq", "--workload", "nothing", "--queue", "quorum"]
    done = subprocess.run([PYTHON, "-m", "bench.peers", *asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| dramatiq (8 threads) |" in done.stdout
