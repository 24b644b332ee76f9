"""Everything that is promised builds, and is what a server of either of the two newest minor versions would take."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions, major_minor

from shared.render.kubernetes import GENERATED
from tests.k8s.manifests import COMBINATIONS, ROOT, Json, Manifests, Tree

SCHEMAS = Path(__file__).parent / "schemas"
#: Kinds that an operator brings: what their documentation says of the fields that we use.
CUSTOM = {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}


def minor_versions() -> list[str]:
    known = {major_minor(version) for version in all_versions()}
    return sorted(known, key=lambda version: [int(part) for part in version.split(".")])[-2:]


def spelled(document: Json) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def test_every_document_is_what_a_server_takes(combinations: dict[str, Manifests]) -> None:
    # Given every document of every combination, each of them once
    documents = {json.dumps(one, sort_keys=True): one for made in combinations.values() for one in made.documents}
    ours = [one for one in documents.values() if one["kind"] not in CUSTOM]

    # Then its fields are those of the kind, with values of their types, and there are no others
    versions = minor_versions()
    assert len(versions) == 2
    for document in ours:
        for version in versions:
            kubernetes_validate.validate(document, version, strict=True)


def test_every_custom_document_is_what_its_operator_takes(combinations: dict[str, Manifests]) -> None:
    documents = [one for made in combinations.values() for one in made.documents if one["kind"] in CUSTOM]
    assert {one["kind"] for one in documents} == CUSTOM.keys(), "a schema without a document, or the other way round"
    for document in documents:
        jsonschema.Draft202012Validator(CUSTOM[document["kind"]]).validate(document)


def test_a_wrong_field_would_be_found(local: Manifests) -> None:
    # Given a Deployment with a field in the wrong place
    wrong = json.loads(json.dumps(local.one("Deployment", "mailer")))
    wrong["spec"]["template"]["spec"]["replicas"] = 3

    # Then the check above is not blind to it
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, minor_versions()[-1], strict=True)


def test_no_document_is_there_twice(manifests: Manifests) -> None:
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in manifests.documents]
    assert len(set(names)) == len(names)


def test_everything_is_in_the_namespace_that_is_restricted(manifests: Manifests) -> None:
    namespace = manifests.one("Namespace", "taskhouse")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for document in manifests.documents:
        if document["kind"] not in ("Namespace", "PriorityClass", "PersistentVolume"):
            assert document["metadata"]["namespace"] == "taskhouse", spelled(document)


def test_without_passwords_the_error_says_what_to_run(empty_tree: Tree) -> None:
    # Given a fresh clone
    # When it is applied
    done = subprocess.run(
        ["kubectl", "kustomize", str(empty_tree.folder / "k8s/overlays/local")],
        capture_output=True,
        text=True,
        check=False,
    )

    # Then it is refused, and the name of what is missing says how to get it
    assert done.returncode != 0
    assert "generated-by-make-k8s-secrets" in done.stderr


def test_the_passwords_are_kept_out_of_the_repository() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", f"k8s/secrets/{GENERATED}/reporter/broker_password"], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0


def test_make_makes_every_file_that_the_secrets_are_made_of(tmp_path: Path) -> None:
    # When a person makes the passwords, once and again
    folder = tmp_path / GENERATED
    for _ in range(2):
        made = subprocess.run(
            ["make", "-s", "k8s-secrets", f"K8S_SECRETS={folder}", f"PYTHON={sys.executable}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr

    # Then nobody else on this machine may look into them
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # And each file that a Secret is made of is there
    generators = yaml.safe_load((ROOT / "k8s/secrets/kustomization.yaml").read_text())["secretGenerator"]
    for file in (file.rpartition("=")[2] for secret in generators for file in secret["files"]):
        assert (tmp_path / file).read_text(), file


def test_make_asks_which_pool_is_to_be_scaled() -> None:
    asked = subprocess.run(["make", "-s", "k8s-scale"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert asked.returncode != 0 and "make k8s-scale SERVICE=mailer N=5" in asked.stderr


def test_the_menu_names_every_component_and_each_says_what_it_is() -> None:
    menu = (ROOT / "k8s" / "README.md").read_text()
    components = [path for path in (ROOT / "k8s" / "components").iterdir() if path.is_dir()]
    overlays = [path for path in (ROOT / "k8s" / "overlays").iterdir() if path.is_dir()]
    for folder in (*components, *overlays):
        assert f"({folder.relative_to(ROOT / 'k8s')})" in menu, f"k8s/README.md does not name {folder.name}"
    for component in components:
        assert (component / "README.md").is_file(), f"{component.name} has no README.md"


def test_every_component_is_in_a_combination_that_is_built() -> None:
    used = {component for _, *components in COMBINATIONS.values() for component in components}
    for path in (ROOT / "k8s" / "overlays").glob("*/kustomization.yaml"):
        if not path.parent.name.startswith("test-"):
            components = yaml.safe_load(path.read_text()).get("components", [])
            used |= {Path(one).name for one in components if Path(one).parent.name == "components"}
    assert used == {path.name for path in (ROOT / "k8s" / "components").iterdir() if path.is_dir()}
