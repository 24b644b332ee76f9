"""What an image leaves out of what its packages bring."""

from pathlib import Path

import pytest

from services import slim
from shared.topology import PUBLISHERS, SERVICES

FILES = (
    *("gevent/hub.py", "gevent/tests/test_hub.py", "pandas/tests/test_frame.py"),
    *("botocore/data/endpoints.json", "botocore/data/s3/model.json.gz", "botocore/data/ec2/model.json.gz"),
    *("babel/core.py", "babel/locale-data/root.dat", "babel/locale-data/kk.dat"),
    *("babel/locale-data/kk_KZ.dat", "babel/locale-data/kkj.dat", "babel/locale-data/zh.dat"),
)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder of site-packages."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def gone(packages: Path) -> set[str]:
    return {name for name in FILES if not (packages / name).exists()}


def test_data_that_an_image_has_no_use_for_goes(packages: Path) -> None:
    slim.slim(packages, "reporter")
    assert gone(packages) == {"gevent/tests/test_hub.py", "botocore/data/ec2/model.json.gz"}
    slim.slim(packages, "scoped")
    # A language stays with its regions, and takes no other with it.
    assert gone(packages) >= {"babel/locale-data/zh.dat", "babel/locale-data/kkj.dat"}
    assert (packages / "babel/locale-data/kk_KZ.dat").exists() and (packages / "babel/locale-data/root.dat").exists()


def test_a_service_that_is_not_named_keeps_its_packages_data(packages: Path) -> None:
    slim.slim(packages, "thumbnailer")
    assert gone(packages) == {"gevent/tests/test_hub.py"}


def test_a_package_that_keeps_its_data_elsewhere_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="locale-data"):
        slim.slim(tmp_path, "scoped")


def test_only_images_that_there_are_are_named() -> None:
    assert set(slim.KEPT) <= {"cli", *(spec.name for spec in SERVICES), *(spec.name for spec in PUBLISHERS)}
