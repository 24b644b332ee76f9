"""The first start: passwords that nobody chose, and what the servers load. Standard library and topology only.

`python -m shared.setup FOLDER` keeps every password that is there, makes those that are missing, and writes the
servers' files anew, so that a service added later gets its user. `--show` prints the passwords that a person needs.
"""

import argparse
import hashlib
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared.errors import ConfigError
from shared.render.definitions import definitions, dump, password_hash
from shared.render.permissions import ADMIN, BEAT, FLOWER, MONITOR, OPERATOR
from shared.topology import BROKER_NODES, PUBLISHERS, REDIS_NODES, SERVICES

#: 32 characters of 6 bits each.
PASSWORD_BYTES = 24
#: Whoever has an app of ours, and so a user on both servers.
OWNERS = (*(spec.name for spec in SERVICES), *(spec.name for spec in PUBLISHERS), BEAT, FLOWER, OPERATOR)

#: Redis' user for the copy of one to the other.
REPLICATION = "replication"

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
# The one file of a server that must hold a password: Redis logs in by it as its own client.
_REPLICATION = """\
user {user} on {hash} resetkeys resetchannels -@all +psync +replconf +ping
masteruser {user}
masterauth {password}
"""
_FLOWER = """\
# Written at each start.
from flower.views.monitor import Metrics
from shared.flower import ask_any
from tornado.web import authenticated

# Flower leaves this page open to strangers, and it names every task and worker.
Metrics.get = authenticated(Metrics.get)

address = "0.0.0.0"
port = 5555
basic_auth = ["{user}:{password}"]
broker_apis = {apis}
broker_api = broker_apis[0]
ask_any(broker_apis)
# Only what is kept here is shown: the state is rebuilt from events.
max_tasks = 10000
"""


@dataclass(frozen=True)
class House:
    """Which servers there are.

    Attributes:
        broker_nodes: hosts of RabbitMQ.
        redis_primary: the host that takes Redis' writes; None where there is one alone.
    """

    broker_nodes: tuple[str, ...] = BROKER_NODES[:1]
    redis_primary: str | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """What `compose/cluster.yaml` says in BROKER_NODES and REDIS_PRIMARY.

        Raises:
            ConfigError: there is no such server.
        """
        nodes, primary = environ.get("BROKER_NODES"), environ.get("REDIS_PRIMARY") or None
        if primary not in (None, *REDIS_NODES):
            raise ConfigError(f"REDIS_PRIMARY: there is no {primary!r}, choose one of {', '.join(REDIS_NODES)}")
        return cls(tuple(nodes.split(",")) if nodes else BROKER_NODES[:1], primary)


def main(arguments: list[str] | None = None) -> int:
    """See the module; gives the exit status."""
    parser = argparse.ArgumentParser(prog="shared.setup", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder for each owner is made, or found, below it")
    parser.add_argument("--show", action="store_true", help="print the passwords that a person needs, and end")
    parser.add_argument("--open", type=Path, help="a folder of the user's that containers write to")
    given = parser.parse_args(arguments)
    if given.show:
        return show(given.folder)
    try:
        prepare(given.folder, House.load())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
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


def prepare(folder: Path, house: House | None = None) -> None:
    """Everything below `folder`: passwords where they are missing, the servers' files always."""
    house = house or House()
    broker = {name: _password(folder / name / "broker_password") for name in OWNERS}
    redis = {name: _password(folder / name / "redis_password") for name in OWNERS}
    # The monitoring user's password is part of Flower's file; it is kept beside the definitions it belongs to.
    broker[MONITOR] = _password(folder / FLOWER / "monitor_password")
    broker[ADMIN] = _password(folder / "people" / "rabbitmq")
    flower = _password(folder / "people" / "flower")

    hashes = {name: password_hash(password) for name, password in broker.items()}
    _write(folder / "rabbitmq" / "definitions.json", dump(definitions(password_hashes=hashes)))
    # Nodes of one cluster know each other by it; a single one does without.
    _password(folder / "rabbitmq" / "erlang.cookie")
    _write_redis(folder, _redis(redis), house.redis_primary)
    apis = [f"http://{MONITOR}:{broker[MONITOR]}@{node}:15672/api/" for node in house.broker_nodes]
    _write(folder / FLOWER / "flowerconfig.py", _FLOWER.format(user=ADMIN, password=flower, apis=apis))


def _redis(passwords: Mapping[str, str]) -> str:
    rights = "~* &* +@all -@admin -@dangerous +info"
    users = (f"user {name} on {_hashed(password)} {rights}" for name, password in passwords.items())
    return _REDIS.format(users="\n".join(users))


def _write_redis(folder: Path, common: str, primary: str | None) -> None:
    if primary is None:
        _write(folder / REDIS_NODES[0] / "redis.conf", common)
        return
    password = _password(folder / REDIS_NODES[0] / "replication_password")
    replication = _REPLICATION.format(user=REPLICATION, password=password, hash=_hashed(password))
    for node in REDIS_NODES:
        follows = "" if node == primary else f"replicaof {primary} 6379\n"
        _write(folder / node / "redis.conf", common + replication + follows)


def _hashed(password: str) -> str:
    return f"#{hashlib.sha256(password.encode()).hexdigest()}"


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
