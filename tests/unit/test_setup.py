"""The first start: passwords that nobody chose, kept, and seen by their owner alone."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from shared import setup
from shared.topology import SERVICES


def test_the_first_start_makes_a_password_for_each_owner_and_server(tmp_path: Path) -> None:
    # Given an empty folder
    # When it is prepared
    setup.prepare(tmp_path)

    # Then each owner has two passwords of its own, and no two are the same
    passwords = [
        (tmp_path / owner / name).read_text()
        for owner in setup.OWNERS
        for name in ("broker_password", "redis_password")
    ]
    assert len(set(passwords)) == len(passwords)
    assert all(len(password) >= 32 for password in passwords)
    assert {spec.name for spec in SERVICES} < set(setup.OWNERS)


def test_a_later_start_keeps_them_and_adds_what_is_missing(tmp_path: Path) -> None:
    # Given a house that was started, and then got a service more
    setup.prepare(tmp_path)
    kept = {path: path.read_text() for path in tmp_path.rglob("*_password")}
    added = tmp_path / "reporter" / "broker_password"
    added.unlink()
    del kept[added]

    # When it is started again
    setup.prepare(tmp_path)

    # Then every password is as it was, and the missing one is there
    assert {path: path.read_text() for path in kept} == kept
    assert added.read_text()


@pytest.mark.parametrize("name", ["reporter", "flower", "people", "certificates"])
def test_what_is_rotated_is_made_anew_and_nothing_else_is(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a house with passwords and certificates
    monkeypatch.setenv("TLS", "true")
    assert setup.main([str(tmp_path)]) == 0
    secret = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    passwords = {path for path in secret if path.name.endswith("_password") or path.parent.name == "people"}
    servers = {path for path in secret if path.name.startswith("server.")}

    # When one owner's are rotated
    assert setup.main([str(tmp_path), "--rotate", name]) == 0

    # Then these are others
    changed = {path for path in passwords | servers if path.read_bytes() != secret[path]}
    assert changed == (servers if name == "certificates" else {path for path in passwords if path.parent.name == name})
    assert changed
    # And the authority, by which clients verify, is the same
    authority = tmp_path / "authority" / "ca.pem"
    assert authority.read_bytes() == secret[authority]


def test_a_later_start_writes_what_stood_there(tmp_path: Path) -> None:
    # Given a house whose servers have their files; a changed one starts a server of a cluster anew
    setup.prepare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    # When it is started again
    setup.prepare(tmp_path)
    assert {path: path.read_bytes() for path in before} == before

    # And when one password is a new one
    (tmp_path / "reporter" / "broker_password").unlink()
    setup.prepare(tmp_path)

    # Then its hash is another one, and no other changed
    definitions = tmp_path / "rabbitmq" / "definitions.json"
    old = {user["name"]: user["password_hash"] for user in json.loads(before[definitions])["users"]}
    new = {user["name"]: user["password_hash"] for user in json.loads(definitions.read_text())["users"]}
    assert {name for name in old if old[name] != new[name]} == {"reporter"}


def test_the_servers_are_given_hashes_only(tmp_path: Path) -> None:
    # When a house is prepared
    setup.prepare(tmp_path)

    # Then neither server's file holds a password, and every user of the broker can log in
    passwords = [path.read_text() for path in tmp_path.rglob("*_password")]
    definitions = (tmp_path / "rabbitmq" / "definitions.json").read_text()
    redis = (tmp_path / "redis" / "redis.conf").read_text()
    assert not [password for password in passwords if password in definitions or password in redis]
    assert all(user["password_hash"] for user in json.loads(definitions)["users"])
    # And in Redis nobody without a name may do anything but ask whether it is alive
    assert "user default off ~* &* +@all" in redis.splitlines()
    assert "user health on nopass resetkeys resetchannels -@all +ping" in redis.splitlines()
    for owner in setup.OWNERS:
        assert f"user {owner} on #" in redis


def test_a_file_is_whole_and_cannot_be_written_by_its_reader(tmp_path: Path) -> None:
    setup.prepare(tmp_path)

    assert not list(tmp_path.rglob(".*.part"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o444}


def test_a_person_is_shown_what_a_person_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Given a house that was not started yet
    # When somebody asks for the passwords
    assert setup.main([str(tmp_path), "--show"]) == 1
    assert "docker compose up" in capsys.readouterr().err

    # And when it was
    assert setup.main([str(tmp_path)]) == 0
    assert setup.main([str(tmp_path), "--show"]) == 0

    # Then there is a line a server: where, who, with which password
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["flower", "rabbitmq", "grafana"]
    assert lines[0].split()[-1] == (tmp_path / "people" / "flower").read_text()
    assert f'basic_auth = ["admin:{lines[0].split()[-1]}"]' in (tmp_path / "flower" / "flowerconfig.py").read_text()
    assert lines[2].split()[-1] == (tmp_path / "grafana" / "admin-password").read_text()
    assert not [line for line in lines if (tmp_path / "reporter" / "broker_password").read_text() in line]


def test_the_folder_of_the_user_is_opened(tmp_path: Path) -> None:
    # Given a folder that only its owner writes to
    folder = tmp_path / "reports"
    folder.mkdir(mode=0o755)

    # When the house is started with it
    setup.main([str(tmp_path / "secrets"), "--open", str(folder)])

    # Then the containers' user may write there too
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777


# --- More than one of each --------------------------------------------------------------------------------------------

TRIO = setup.House(broker_nodes=("rabbitmq", "rabbitmq-2", "rabbitmq-3"), redis_primary="redis")


def test_the_nodes_of_a_cluster_share_a_secret_that_is_kept(tmp_path: Path) -> None:
    # When a house is prepared, and prepared again
    setup.prepare(tmp_path, TRIO)
    cookie = (tmp_path / "rabbitmq" / "erlang.cookie").read_text()
    setup.prepare(tmp_path, TRIO)

    # Then Erlang's cookie is a password like the others
    assert (tmp_path / "rabbitmq" / "erlang.cookie").read_text() == cookie
    assert len(cookie) >= 32
    assert not [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "erlang.cookie" and cookie in path.read_text()
    ]


def test_flower_knows_the_api_of_each_node(tmp_path: Path) -> None:
    setup.prepare(tmp_path, TRIO)

    config = (tmp_path / "flower" / "flowerconfig.py").read_text()
    assert [f"@{node}:15672/api/" in config for node in TRIO.broker_nodes] == [True] * 3


@pytest.mark.parametrize(("primary", "replica"), [("redis", "redis-replica"), ("redis-replica", "redis")])
def test_one_redis_follows_the_other_as_a_user_that_may_do_no_more(tmp_path: Path, primary: str, replica: str) -> None:
    # When a house with two of Redis is prepared
    setup.prepare(tmp_path, replace(TRIO, redis_primary=primary))

    # Then the one follows the other, and both know the same users
    files = {node: (tmp_path / node / "redis.conf").read_text() for node in (primary, replica)}
    assert files[replica] == files[primary] + f"replicaof {primary} 6379\n"
    # And the user by which it does has a password of its own, and no key
    lines = files[primary].splitlines()
    (user,) = [line for line in lines if line.startswith("user replication ")]
    assert user.endswith(" resetkeys resetchannels -@all +psync +replconf +ping")
    assert f"masterauth {(tmp_path / 'redis' / 'replication_password').read_text()}" in lines


def test_one_redis_alone_knows_no_user_for_copies(tmp_path: Path) -> None:
    setup.prepare(tmp_path)

    assert "replication" not in (tmp_path / "redis" / "redis.conf").read_text()
    assert not (tmp_path / "redis-replica").exists()


def test_a_primary_that_is_no_server_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PRIMARY", "redis-2")
    assert setup.main([str(tmp_path)]) == 2
    assert "REDIS_PRIMARY: there is no 'redis-2', choose one of redis, redis-replica" in capsys.readouterr().err
