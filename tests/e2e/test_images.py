"""What the images hold, and that nothing is missing from them."""

import pytest

from services import slim
from tests.e2e.houses import ComposeHouse

pytestmark = pytest.mark.containers

#: Tells what is left of a package's data, and what works with that.
STORE = """
from pathlib import Path
import botocore.session, s3fs
session = botocore.session.get_session()
for name in ("s3", "sts", "sso", "sso-oidc", "signin"):
    session.get_service_model(name)
print(sum(path.is_dir() for path in Path(botocore.session.__file__).with_name("data").iterdir()))
"""
LANGUAGES = """
from datetime import date
from services.scoped.languages import Language, catalogues
for name in sorted([*catalogues(), "de-AT", "pt-BR"]):
    print(name, Language.best(name).date(date(2026, 1, 2)))
"""


def python(compose: ComposeHouse, service: str, code: str) -> list[str]:
    """The lines that a program prints in a container that runs."""
    done = compose.compose("exec", "-T", service, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("service", ["reporter", "mailer", "gateway"])
def test_an_image_that_has_an_object_store_has_the_clients_for_it_and_no_other(
    compose: ComposeHouse, service: str
) -> None:
    assert python(compose, service, STORE) == ["5"]


def test_the_languages_that_there_are_words_for_have_their_dates(compose: ComposeHouse) -> None:
    told = dict(line.split(" ", 1) for line in python(compose, "scoped", LANGUAGES))
    assert told["de-AT"] == "2. Jänner 2026" and told["ja"] == "2026年1月2日" and told["ru"] == "2 января 2026\u202fг."
    # For a reader whose language has no words
    assert told["pt-BR"] == told["en"] == "January 2, 2026"
    assert len(told) == len(slim.LANGUAGES) + 2


def test_a_worker_has_its_own_command_and_its_packages_without_their_tests(compose: ComposeHouse) -> None:
    container = compose.containers("calculator")[0]
    assert container["Config"]["Entrypoint"] == ["taskhouse"]
    folders = [f"/opt/venv/lib/python3*/site-packages/{name}" for name in slim.NEVER]
    found = compose.compose("exec", "-T", "calculator", "sh", "-c", f"ls -d {' '.join(folders)}")
    assert found.stdout == "", found.stdout
    assert python(compose, "calculator", "import gevent.monkey, zope.interface.common; print('there')") == ["there"]
