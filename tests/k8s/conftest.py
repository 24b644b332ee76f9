"""Rendered once a session. Without kubectl these tests are skipped, and fail where CI=true."""

import shutil
from pathlib import Path

import pytest

from tests.k8s.manifests import COMBINATIONS, Manifests, Tree
from tests.missing import missing


@pytest.fixture(scope="session")
def kubectl() -> str:
    found = shutil.which("kubectl")
    if found is None:
        missing("rendering Kubernetes objects needs kubectl: `.ci/packages` installs it")
    return found


@pytest.fixture(scope="session")
def tree(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    made = Tree(tmp_path_factory.mktemp("kustomize"))
    made.make_secrets()
    return made


@pytest.fixture(scope="session")
def combinations(tree: Tree) -> dict[str, Manifests]:
    return {name: tree.build(name) for name in COMBINATIONS}


@pytest.fixture(params=COMBINATIONS)
def manifests(request: pytest.FixtureRequest, combinations: dict[str, Manifests]) -> Manifests:
    """Each combination in turn."""
    return combinations[request.param]


@pytest.fixture(scope="session")
def local(combinations: dict[str, Manifests]) -> Manifests:
    return combinations["local"]


@pytest.fixture(scope="session")
def production(combinations: dict[str, Manifests]) -> Manifests:
    return combinations["production"]


@pytest.fixture
def empty_tree(kubectl: str, tmp_path: Path) -> Tree:
    """As after `git clone`."""
    return Tree(tmp_path / "clone")
