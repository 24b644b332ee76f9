"""Takes out of an image what its packages bring and it has no use for: `python services/slim.py /opt/venv scoped`.

Run while an image is built, before its bytecode is made. Only what is named here goes: a service that is not named
keeps all its packages' data.
"""

import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

#: Folders of site-packages that no image uses: tests of what every worker has.
NEVER = ("gevent/tests", "greenlet/tests", "zope/interface/tests", "zope/interface/common/tests")

#: What a client of an object store needs of botocore's 430 services: the store, and who gives credentials for it.
STORE: dict[str, tuple[str, ...]] = {"botocore/data": ("*.json", "s3", "sts", "sso", "sso-oidc", "signin")}
#: The languages that there are words for. To all other readers the service speaks English, numbers and dates too.
LANGUAGES = tuple(path.stem for path in Path(__file__).parent.glob("scoped/catalogues/*.po"))
#: By image: of which folder's files it keeps what.
KEPT: dict[str, dict[str, tuple[str, ...]]] = {
    "cli": STORE,
    "gateway": STORE,
    "mailer": STORE,
    "reporter": STORE,
    "scoped": {"babel/locale-data": ("root.dat", *(f"{name}{more}.dat" for name in LANGUAGES for more in ("", "_*")))},
}


def slim(packages: Path, image: str) -> None:
    """Remove from `packages`, a folder of site-packages, what the image called `image` has no use for.

    Raises:
        FileNotFoundError: a package keeps its data elsewhere now, so change KEPT.
    """
    for folder in NEVER:
        shutil.rmtree(packages / folder, ignore_errors=True)
    for folder, patterns in KEPT.get(image, {}).items():
        for path in list((packages / folder).iterdir()):
            if any(fnmatch(path.name, pattern) for pattern in patterns):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


if __name__ == "__main__":
    _, environment, name = sys.argv
    for found in Path(environment).glob("lib/python*/site-packages"):
        slim(found, name)
