"""A service is added by one command and removed by another, whole or not at all."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scaffold.options import Options
from shared.errors import TopologyError
from tests.missing import missing
from tests.services.copies import Copy

#: Ten that have something of everything.
TEN: dict[str, dict[str, str]] = {
    "thumbnailer": {"SYSTEM_PACKAGES": "libvips42t64", "EGRESS": "s3"},
    "indexer": {"POOL": "gevent", "CONCURRENCY": "100", "EGRESS": "search.example.org:9200"},
    "translator": {"GPUS": "1", "CALLS": "mailer,webhook"},
    "biller": {"CALLS": "mailer", "CONCURRENCY": "1"},
    "crawler": {"POOL": "threads", "CONCURRENCY": "8", "EGRESS": "http https"},
    "importer": {"SUMMARY": 'takes "quoted" text, \\ and {{ braces }}'},
    "video_encoder": {"CONCURRENCY": "1-2"},
    "archiver": {"EGRESS": "s3"},
    "postman": {"EGRESS": "smtp"},
    "solo_player": {"POOL": "solo", "CONCURRENCY": "1"},
}


@pytest.fixture(scope="module")
def shared_copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("copy") / "taskhouse")


@pytest.fixture
def copy(shared_copy: Copy) -> Iterator[Copy]:
    """A clean copy, which the next test finds clean again."""
    yield shared_copy
    shared_copy.run("git", "reset", "-q", "--hard")
    shared_copy.run("git", "clean", "-qfd")


def make(copy: Copy, target: str, **variables: str) -> str:
    return copy.run("make", "-s", "COMPOSE=:", target, *(f"{name}={value}" for name, value in variables.items()))


def test_a_service_is_written_works_and_is_gone_again(copy: Copy) -> None:
    # When a service is asked for by its name alone
    make(copy, "new-service", NAME="thumbnailer")

    # Then the tree is one that the project's own checks take
    copy.run(sys.executable, "-m", "celery", "-A", "shared.app", "topology", "check")
    copy.run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    copy.run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")
    # And its own test passes, and those that hold for every service
    tests = ("tests/services/test_thumbnailer.py", "tests/contract/test_signatures_match.py")
    copy.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    # And nothing is left when it is removed
    assert "services/thumbnailer/tasks.py" in copy.changes()
    make(copy, "remove-service", NAME="thumbnailer")
    assert copy.changes() == ""


def test_ten_services_stand_beside_each_other(copy: Copy) -> None:
    # Given ten, with all that can be asked for
    for name, options in TEN.items():
        make(copy, "new-service", NAME=name, **options)

    # Then everything that follows agrees with the topology, and the code is as the project writes it
    copy.run(sys.executable, "-m", "celery", "-A", "shared.app", "topology", "check")
    copy.run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    copy.run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")
    # And each option is where it belongs
    workers = yaml.safe_load((copy.root / "compose/workers.yaml").read_text())["services"]
    assert workers["thumbnailer"]["build"]["args"]["SYSTEM_PACKAGES"] == "libvips42t64"
    assert {"--pool=${INDEXER_POOL:-gevent}", "--concurrency=100"} <= set(workers["indexer"]["command"])
    assert "outside" in workers["postman"]["networks"] and "networks" not in workers["biller"]
    pod = next(yaml.safe_load_all((copy.root / "k8s/services/translator/translator.yaml").read_text().split("---")[1]))
    assert pod["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    # And each has its alerts and its dashboard, and a row in everybody's
    overview = (copy.root / "compose/grafana/dashboards/overview.json").read_text()
    for name in TEN:
        rules = yaml.safe_load((copy.root / f"compose/prometheus/rules/{name}.yml").read_text())["groups"][0]["rules"]
        assert {"NoConsumer", "OldestMessageTooOld", "DeadLettersGrow"} <= {rule["alert"] for rule in rules}
        assert (copy.root / f"compose/grafana/dashboards/service-{name}.json").is_file()
        assert f'service=\\"{name}\\"' in overview
    # And they all are gone again, in any order
    for name in TEN:
        make(copy, "remove-service", NAME=name)
    assert copy.changes() == ""


@pytest.mark.parametrize("overlay", ["local", "production"])
def test_kubernetes_takes_a_new_service(copy: Copy, overlay: str) -> None:
    if shutil.which("kubectl") is None:
        missing("kubectl is not installed")
    make(copy, "new-service", NAME="video_encoder")
    copy.run(sys.executable, "-m", "shared.setup", "k8s/secrets/generated-by-make-k8s-secrets")
    built = copy.run("kubectl", "kustomize", f"k8s/overlays/{overlay}")
    made = [one for one in yaml.safe_load_all(built) if one["metadata"]["name"] == "video-encoder"]
    assert "Deployment" in {one["kind"] for one in made}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "lower-case letters"),
        ("Thumbnailer", "lower-case letters"),
        ("thumb-nailer", "lower-case letters"),
        ("2nd", "lower-case letters"),
        ("../thumbnailer", "lower-case letters"),
        ("thumbnailer\n", "lower-case letters"),
        ("mailer", "is there twice"),
        ("gateway", "taken by the system itself"),
        ("celery_worker", "taken by the system itself"),
        ("class", "no word of Python's own"),
        ("x" * 41, "at most 40 characters"),
        ("fetch_repos", "delayed messages of the task reporter.fetch_repos would reach it too"),
    ],
)
def test_a_bad_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(TopologyError, match=reason):
        Options.read(name)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("calls", "nobody", "calls 'nobody', which is no service"),
        ("egress", "s4", "'s4' in `egress` must be host:port"),
        ("egress", "example.org:99999", "must be host:port"),
        ("concurrency", "many", "CONCURRENCY=many: must be a number"),
        ("concurrency", "8-2", "must be (least, most)"),
        ("concurrency", "0", "must be (least, most)"),
        ("system_packages", "libvips; rm", "is no name of a Debian package"),
    ],
)
def test_a_bad_option_is_refused_with_its_reason(option: str, value: str, reason: str) -> None:
    with pytest.raises(TopologyError) as refused:
        Options.read("thumbnailer", **{option: value})  # type: ignore[arg-type]
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "variables", [{"NAME": "mailer"}, {"NAME": "thumbnailer", "PACKAGES": "no-such-package-at-all"}, {"NAME": ""}]
)
def test_what_is_refused_leaves_nothing(copy: Copy, variables: dict[str, str]) -> None:
    given = [f"{name}={value}" for name, value in variables.items()]
    done = copy.attempt("make", "-s", "COMPOSE=:", "new-service", *given)
    assert done.returncode != 0 and done.stderr
    assert copy.changes() == ""


def test_nothing_that_is_needed_or_unsaved_is_removed(copy: Copy) -> None:
    # Given a service that another calls, in which somebody has begun to write
    make(copy, "new-service", NAME="thumbnailer")
    make(copy, "new-service", NAME="gallery", CALLS="thumbnailer")
    tasks = copy.root / "services/thumbnailer/tasks.py"
    helper = Path("services/thumbnailer/pixels.py")
    (copy.root / helper).write_text("#: Of my own.\nPIXELS = 1\n")
    before = copy.changes()

    # When it is to be removed, then it stays
    refused = copy.attempt("make", "-s", "COMPOSE=:", "remove-service", "NAME=thumbnailer")
    assert "is needed by service 'gallery'" in refused.stderr
    make(copy, "remove-service", NAME="gallery")
    refused = copy.attempt("make", "-s", "COMPOSE=:", "remove-service", "NAME=thumbnailer")
    assert f"git does not have {helper} as it stands" in refused.stderr
    assert tasks.exists() and copy.changes() != before
    # Until it is asked for by force
    make(copy, "remove-service", NAME="thumbnailer", FORCE="1")
    assert copy.changes() == ""


def test_there_is_none_to_remove(copy: Copy) -> None:
    refused = copy.attempt("make", "-s", "COMPOSE=:", "remove-service", "NAME=nobody")
    assert refused.returncode != 0 and "there is no service 'nobody'" in refused.stderr
