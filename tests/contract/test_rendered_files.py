"""The committed files that follow from the topology say what it says."""

from pathlib import Path

import pytest

from shared.render.files import FILES, RenderedFile

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.path))
def test_a_committed_file_says_what_the_topology_says(file: RenderedFile) -> None:
    committed = (ROOT / file.path).read_text()
    assert committed == file.content(), "run `make topology` and commit what it writes"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.path))
def test_rendering_twice_gives_the_same(file: RenderedFile) -> None:
    assert file.content() == file.content()


def test_no_two_files_have_one_path() -> None:
    assert len({file.path for file in FILES}) == len(FILES)
