"""The first start: passwords that nobody chose, certificates where they are asked for, and what the servers load.

`python -m shared.setup FOLDER` keeps every password that is there, makes those that are missing, and writes the
servers' files anew, so that a service added later gets its user. `--show` prints the passwords that a person needs,
and `--rotate NAME` first forgets those of one owner.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared.errors import ConfigError
from shared.render import redis_users
from shared.render.definitions import definitions, dump, fits, password_hash
from shared.render.permissions import ADMIN, BEAT, EXPORTER, FLOWER, MONITOR, OPERATOR
from shared.render.redis_users import HEALTH, REPLICATION, RedisUser
from shared.topology import BROKER_NODES, PUBLISHERS, REDIS_NODES, SERVICES

#: 32 characters of 6 bits each.
PASSWORD_BYTES = 24
#: Whoever has an app of ours, and so a user on both servers.
OWNERS = (*(spec.name for spec in SERVICES), *(spec.name for spec in PUBLISHERS), BEAT, FLOWER, OPERATOR)

#: The folder of those passwords that a person types.
PEOPLE = "people"
#: Has a page, and is no client of the servers.
GRAFANA = "grafana"
#: What `--rotate` calls those of the servers.
CERTIFICATES = "certificates"

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
user {health} on nopass resetkeys resetchannels -@all +ping
{users}
"""
# The one file of a server that must hold a password: Redis logs in by it as its own client.
_REPLICATION = """\
{line}
masteruser {user}
masterauth {password}
"""
_REDIS_TLS = """\
port 0
tls-port 6379
tls-replication yes
tls-auth-clients no
tls-protocols "TLSv1.2 TLSv1.3"
tls-ca-cert-file /run/users/ca.pem
tls-cert-file /run/users/server.pem
tls-key-file /run/users/server.key
"""
_BROKER_TLS = """\
listeners.tcp = none
listeners.ssl.default = 5671
# Clients log in by passwords, and need no certificates.
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
ssl_options.cacertfile = /run/definitions/ca.pem
ssl_options.certfile = /run/definitions/server.pem
ssl_options.keyfile = /run/definitions/server.key
management.ssl.port = 15671
management.ssl.versions.1 = tlsv1.3
management.ssl.versions.2 = tlsv1.2
management.ssl.cacertfile = /run/definitions/ca.pem
management.ssl.certfile = /run/definitions/server.pem
management.ssl.keyfile = /run/definitions/server.key
"""
#: Names of this machine, by which a published port is reached.
_HERE = ("localhost", "127.0.0.1")
#: The user of both servers' official images.
_SERVER_USER = 999
_FLOWER = """\
# Written at each start.
from shared.flower import prepare

address = "0.0.0.0"
port = 5555
basic_auth = ["{user}:{password}"]
broker_apis = {apis}
broker_api = broker_apis[0]
prepare(broker_apis, ca_file={ca})
# What it has seen survives a restart; a crash costs the last minute.
persistent = True
db = "/state/flower"
state_save_interval = 60_000
max_tasks = 10000
# A container's name is a worker's, and does not come again: a day after its end it is shown no more.
purge_offline_workers = 24 * 3600
"""


@dataclass(frozen=True)
class House:
    """Which servers there are.

    Attributes:
        broker_nodes: hosts of RabbitMQ.
        redis_primary: the host that takes Redis' writes; None where there is one alone.
        tls: whether the servers take TLS alone.
        redis_broker: whether Redis is the broker too.
    """

    broker_nodes: tuple[str, ...] = BROKER_NODES[:1]
    redis_primary: str | None = None
    tls: bool = False
    redis_broker: bool = False

    @property
    def redis_nodes(self) -> tuple[str, ...]:
        """Hosts of Redis."""
        return REDIS_NODES[:1] if self.redis_primary is None else REDIS_NODES

    @property
    def api(self) -> tuple[str, int]:
        """Scheme and port of RabbitMQ's management API."""
        return ("https", 15671) if self.tls else ("http", 15672)

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """What compose's extra files say: `cluster.yaml` in BROKER_NODES and REDIS_PRIMARY, `tls.yaml` in TLS, and
        `redis-broker.yaml` in REDIS_BROKER.

        Raises:
            ConfigError: there is no such server.
        """
        nodes, primary = environ.get("BROKER_NODES"), environ.get("REDIS_PRIMARY") or None
        if primary not in (None, *REDIS_NODES):
            raise ConfigError(f"REDIS_PRIMARY: there is no {primary!r}, choose one of {', '.join(REDIS_NODES)}")
        return cls(
            tuple(nodes.split(",")) if nodes else BROKER_NODES[:1],
            primary,
            tls=bool(environ.get("TLS")),
            redis_broker=bool(environ.get("REDIS_BROKER")),
        )


def main(arguments: list[str] | None = None) -> int:
    """See the module; gives the exit status."""
    parser = argparse.ArgumentParser(prog="shared.setup", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder for each owner is made, or found, below it")
    parser.add_argument("--show", action="store_true", help="print the passwords that a person needs, and end")
    parser.add_argument("--rotate", choices=(*OWNERS, PEOPLE, CERTIFICATES), help="make these anew")
    parser.add_argument("--open", type=Path, help="a folder of the user's that containers write to")
    given = parser.parse_args(arguments)
    try:
        house = House.load()
        if given.show:
            return show(given.folder, house)
        if given.rotate:
            forget(given.folder, given.rotate)
        prepare(given.folder, house)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if given.open:
        # The containers' user is not the one that owns the folder.
        given.open.chmod(0o777)
    return 0


def show(folder: Path, house: House | None = None) -> int:
    """Print who logs in where."""
    people = folder / PEOPLE
    if not people.is_dir() or not any(people.iterdir()):
        print("there are no passwords yet: `docker compose up -d --wait` makes them", file=sys.stderr)
        return 1
    scheme, port = (house or House()).api
    pages = {
        "flower": "http://127.0.0.1:5555",
        "rabbitmq": f"{scheme}://127.0.0.1:{port}",
        GRAFANA: "http://127.0.0.1:3000",
    }
    for name, address in pages.items():
        # A house that was started before there was a page has no password for it yet.
        if (people / name).is_file():
            print(f"{name:10} {address:24} {ADMIN}  {(people / name).read_text()}")
    return 0


def forget(folder: Path, name: str) -> None:
    """Remove what `name` logs in by, or the servers' certificates: `prepare` makes new ones."""
    patterns = {CERTIFICATES: "*/server.pem", PEOPLE: f"{PEOPLE}/*"}
    for path in folder.glob(patterns.get(name, f"{name}/*_password")):
        path.unlink()


def prepare(folder: Path, house: House | None = None) -> None:
    """Everything below `folder`: passwords where they are missing, the servers' files always."""
    house = house or House()
    broker = {name: _password(folder / name / "broker_password") for name in OWNERS}
    redis = {name: _password(folder / name / "redis_password") for name in OWNERS}
    # The monitoring user's password is part of Flower's file; it is kept beside the definitions it belongs to.
    broker[MONITOR] = _password(folder / FLOWER / "monitor_password")
    broker[EXPORTER] = _password(folder / EXPORTER / "broker_password")
    broker[ADMIN] = _password(folder / PEOPLE / "rabbitmq")
    flower = _password(folder / PEOPLE / "flower")
    # Its container sees no other password of people's.
    _write(folder / GRAFANA / "admin-password", _password(folder / PEOPLE / GRAFANA))

    loaded = folder / "rabbitmq" / "definitions.json"
    hashes = _hashes(broker, loaded)
    _write(loaded, dump(definitions(password_hashes=hashes)))
    # Nodes of one cluster know each other by it; a single one does without.
    _password(folder / "rabbitmq" / "erlang.cookie")
    _write(folder / "rabbitmq" / "house.conf", "# Written at each start.\n" + (_BROKER_TLS if house.tls else ""))
    users = redis_users.lines(redis, broker=house.redis_broker)
    _write_redis(folder, _REDIS.format(health=HEALTH, users=users), house)
    scheme, port = house.api
    apis = [f"{scheme}://{MONITOR}:{broker[MONITOR]}@{node}:{port}/api/" for node in house.broker_nodes]
    ca = "/run/secrets/ca.pem" if house.tls else None
    _write(folder / FLOWER / "flowerconfig.py", _FLOWER.format(user=ADMIN, password=flower, apis=apis, ca=repr(ca)))
    if house.tls:
        _certify(folder, house)


def _hashes(passwords: Mapping[str, str], kept: Path) -> dict[str, str]:
    """A hash for each user: the one in the file `kept` where it still fits, so that a start changes nothing."""
    known = json.loads(kept.read_text())["users"] if kept.is_file() else []
    before = {user["name"]: user["password_hash"] for user in known}
    return {
        name: before[name] if fits(password, before.get(name, "")) else password_hash(password)
        for name, password in passwords.items()
    }


def _certify(folder: Path, house: House) -> None:
    # Here, because nobody else needs the library.
    from shared import certificates

    signer = certificates.authority(folder / "authority")
    # Only root can give a key away to the servers' user.
    owner = _SERVER_USER if os.geteuid() == 0 else None
    # Every node that there may be: a cluster that grows needs no new certificate.
    made = [certificates.server(folder / "rabbitmq", (*BROKER_NODES, *_HERE), signer, owner=owner)]
    for node in house.redis_nodes:
        made.append(certificates.server(folder / node, (*REDIS_NODES, *_HERE), signer, owner=owner))
    for name in (*OWNERS, EXPORTER):
        certificates.write(folder / name / certificates.CA, signer.pem, 0o444)
    if any(made):
        print("there are new certificates: a server that runs must be restarted to use them")


def _write_redis(folder: Path, common: str, house: House) -> None:
    common += _REDIS_TLS if house.tls else ""
    if house.redis_primary is not None:
        password = _password(folder / REDIS_NODES[0] / "replication_password")
        line = RedisUser(REPLICATION, commands="+psync +replconf +ping").line(password)
        common += _REPLICATION.format(user=REPLICATION, password=password, line=line)
    for node in house.redis_nodes:
        leads = house.redis_primary in (None, node)
        _write(folder / node / "redis.conf", common + ("" if leads else f"replicaof {house.redis_primary} 6379\n"))


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
