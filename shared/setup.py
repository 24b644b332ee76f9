"""The first start: passwords that nobody chose, and what the servers load. Standard library and topology only.

`python -m shared.setup FOLDER` keeps every password that is there, makes those that are missing, and writes the
servers' files anew, so that a service added later gets its user. `--show` prints the passwords that a person needs.
"""

import argparse
import hashlib
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.render.definitions import definitions, dump, fits, password_hash
from shared.render.permissions import ADMIN, BEAT, EXPORTER, FLOWER, MONITOR, OPERATOR
from shared.topology import PUBLISHERS, SERVICES

#: 32 characters of 6 bits each.
PASSWORD_BYTES = 24
#: Whoever has an app of ours, and so a user on both servers.
OWNERS = (*(spec.name for spec in SERVICES), *(spec.name for spec in PUBLISHERS), BEAT, FLOWER, OPERATOR)

_REDIS = """\
# Written at each start; the passwords themselves are not in it.
dir /data
appendonly yes
appendfsync everysec
maxmemory 384mb
# Results expire by themselves; locks and schedules must not be thrown out to make room.
maxmemory-policy volatile-ttl
# Nobody is let in without a name. The rights are for Redis itself: at a start it runs its file as this user, and what
# the user may not do would be lost.
user default off ~* &* +@all
# Anybody may ask whether the server is alive, and nothing else.
user health on nopass resetkeys resetchannels -@all +ping
{users}
"""
_FLOWER = """\
# Written at each start.
from flower.views.monitor import Metrics
from tornado.web import authenticated

# Flower leaves this page open to strangers, and it names every task and worker.
Metrics.get = authenticated(Metrics.get)

address = "0.0.0.0"
port = 5555
basic_auth = ["{user}:{password}"]
broker_api = "http://{monitor}:{monitor_password}@rabbitmq:15672/api/"
# Only what is kept here is shown: the state is rebuilt from events.
max_tasks = 10000
"""


def main(arguments: list[str] | None = None) -> int:
    """See the module; gives the exit status."""
    parser = argparse.ArgumentParser(prog="shared.setup", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder for each owner is made, or found, below it")
    parser.add_argument("--show", action="store_true", help="print the passwords that a person needs, and end")
    parser.add_argument("--open", type=Path, help="a folder of the user's that containers write to")
    given = parser.parse_args(arguments)
    if given.show:
        return show(given.folder)
    prepare(given.folder)
    if given.open:
        # The containers' user is not the one that owns the folder.
        given.open.chmod(0o777)
    return 0


def show(folder: Path) -> int:
    """Print who logs in where."""
    people = folder / "people"
    if not people.is_dir() or not any(people.iterdir()):
        print("there are no passwords yet: `docker compose up -d --wait` makes them", file=sys.stderr)
        return 1
    for name, address in (("flower", "http://127.0.0.1:5555"), ("rabbitmq", "http://127.0.0.1:15672")):
        print(f"{name:10} {address:24} {ADMIN}  {(people / name).read_text()}")
    return 0


def prepare(folder: Path) -> None:
    """Everything below `folder`: passwords where they are missing, the servers' files always."""
    broker = {name: _password(folder / name / "broker_password") for name in OWNERS}
    redis = {name: _password(folder / name / "redis_password") for name in OWNERS}
    # The monitoring user's password is part of Flower's file; it is kept beside the definitions it belongs to.
    broker[MONITOR] = _password(folder / FLOWER / "monitor_password")
    broker[EXPORTER] = _password(folder / EXPORTER / "broker_password")
    broker[ADMIN] = _password(folder / "people" / "rabbitmq")
    flower = _password(folder / "people" / "flower")

    loaded = folder / "rabbitmq" / "definitions.json"
    hashes = _hashes(broker, loaded)
    _write(loaded, dump(definitions(password_hashes=hashes)))
    _write(folder / "redis" / "redis.conf", _redis(redis))
    _write(
        folder / FLOWER / "flowerconfig.py",
        _FLOWER.format(user=ADMIN, password=flower, monitor=MONITOR, monitor_password=broker[MONITOR]),
    )


def _hashes(passwords: Mapping[str, str], kept: Path) -> dict[str, str]:
    """A hash for each user: the one in the file `kept` where it still fits, so that a start changes nothing."""
    known = json.loads(kept.read_text())["users"] if kept.is_file() else []
    before = {user["name"]: user["password_hash"] for user in known}
    return {
        name: before[name] if fits(password, before.get(name, "")) else password_hash(password)
        for name, password in passwords.items()
    }


def _redis(passwords: Mapping[str, str]) -> str:
    rights = "~* &* +@all -@admin -@dangerous +info"
    users = (
        f"user {name} on #{hashlib.sha256(password.encode()).hexdigest()} {rights}"
        for name, password in passwords.items()
    )
    return _REDIS.format(users="\n".join(users))


def _password(path: Path) -> str:
    if path.is_file() and (kept := path.read_text()):
        return kept
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    _write(path, password)
    return password


def _write(path: Path, content: str) -> None:
    """Write `content` whole. Readable for all: who may mount the folder is what protects it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    part = path.with_name(f".{path.name}.part")
    part.write_text(content)
    part.chmod(0o444)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
