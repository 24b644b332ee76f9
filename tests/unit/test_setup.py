"""The first start: passwords that nobody chose, kept, and seen by their owner alone."""

import json
import stat
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
    assert [line.split()[0] for line in lines] == ["flower", "rabbitmq"]
    assert lines[0].split()[-1] == (tmp_path / "people" / "flower").read_text()
    assert f'basic_auth = ["admin:{lines[0].split()[-1]}"]' in (tmp_path / "flower" / "flowerconfig.py").read_text()
    assert not [line for line in lines if (tmp_path / "reporter" / "broker_password").read_text() in line]


def test_the_folder_of_the_user_is_opened(tmp_path: Path) -> None:
    # Given a folder that only its owner writes to
    folder = tmp_path / "reports"
    folder.mkdir(mode=0o755)

    # When the house is started with it
    setup.main([str(tmp_path / "secrets"), "--open", str(folder)])

    # Then the containers' user may write there too
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777
