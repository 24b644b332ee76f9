"""Settings from the environment and from secret files."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.connection import Connection
from pydantic import SecretStr

from shared.config import Settings, with_password
from shared.errors import ConfigError

BROKER_AND_REDIS = {"BROKER_URL": "amqp://reporter@rabbitmq:5672//", "REDIS_URL": "redis://reporter@redis:6379/0"}

#: Each setting: what the variable says, and what the field then is.
VALUES: dict[str, tuple[str, Any]] = {
    "broker_url": ("amqps://a@one:5671//;amqps://a@two:5671//", "amqps://a@one:5671//;amqps://a@two:5671//"),
    "broker_failover": ("two.test, three", ("two.test", "three")),
    "broker_password": ("hunter2", SecretStr("hunter2")),
    "broker_reads": ("pieces", "pieces"),
    "broker_visibility_timeout": ("7200", 7200.0),
    "task_serializer": ("msgpack", "msgpack"),
    "task_accept": ("msgpack, yaml", ("msgpack", "yaml")),
    "task_compression": ("zstd", "zstd"),
    "redis_url": ("rediss://a@redis:6380/1", "rediss://a@redis:6380/1"),
    "redis_password": ("hunter3", SecretStr("hunter3")),
    "tls_ca_file": ("/etc/ssl/ca.pem", Path("/etc/ssl/ca.pem")),
    "reports_url": ("s3://bucket/reports", "s3://bucket/reports"),
    "local_dir": ("/var/local/taskhouse", Path("/var/local/taskhouse")),
    "github_api_url": ("http://github.test:8080/api", "http://github.test:8080/api"),
    "github_token": ("ghp_x", SecretStr("ghp_x")),
    "health_file": ("/run/health/consuming", Path("/run/health/consuming")),
    "status_port": ("9100", 9100),
    "status_host": ("127.0.0.1", "127.0.0.1"),
    "log_level": ("DEBUG", "DEBUG"),
    "log_format": ("json", "json"),
    "task_log_dir": ("/var/log/tasks", Path("/var/log/tasks")),
    "task_log_size": ("1000", 1000),
    "task_log_backups": ("0", 0),
    "publish_timeout": ("2.5", 2.5),
    "max_message_size": ("1000", 1000),
    "otel_exporter_otlp_endpoint": ("http://collector:4318", "http://collector:4318"),
    "outbox_url": ("postgresql://shop@db/shop", "postgresql://shop@db/shop"),
    "outbox_password": ("hunter6", SecretStr("hunter6")),
    "callback_hosts": ("a.test, *.b.test", ("a.test", "*.b.test")),
    "callback_secret": ("hunter5", SecretStr("hunter5")),
    "callback_networks": ("10.1.0.0/16,::1/128", (IPv4Network("10.1.0.0/16"), IPv6Network("::1/128"))),
    "smtp_url": ("smtps://ann@mail.test:465", "smtps://ann@mail.test:465"),
    "smtp_password": ("hunter4", SecretStr("hunter4")),
    "smtp_timeout": ("5", 5.0),
    "mail_from": ("House <house@mail.test>", "House <house@mail.test>"),
    "admins": ("ann@mail.test, bob@MAIL.test", ("ann@mail.test", "bob@mail.test")),
    "mail_lease": ("60", 60.0),
    "attachments_limit": ("1000", 1000),
    "error_window": ("600", 600.0),
    "errors_per_hour": ("7", 7),
}


def environ_for(field: str) -> dict[str, str]:
    """What must be set beside `field`."""
    if field in ("broker_url", "redis_url"):
        return {name: value for name, value in BROKER_AND_REDIS.items() if name != field.upper()}
    if field == "broker_failover":
        return BROKER_AND_REDIS
    if field == "tls_ca_file":
        return {**BROKER_AND_REDIS, "BROKER_URL": "amqps://reporter@rabbitmq//"}
    return {}


def shown(settings: Settings) -> str:
    return f"{settings!r} {settings} {settings.model_dump_json(include={'broker_password', 'redis_password'})}"


# --- Where values come from -------------------------------------------------------------------------------------------


def test_this_file_knows_every_setting() -> None:
    assert VALUES.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("field", VALUES)
def test_each_setting_comes_from_its_variable(field: str) -> None:
    # Given its variable in the environment
    value, expected = VALUES[field]
    # When the settings are loaded
    settings = Settings.load({**environ_for(field), field.upper(): value})
    # Then the field has its value, in its type
    assert getattr(settings, field) == expected


@pytest.mark.parametrize("field", VALUES)
def test_each_setting_comes_from_the_file_that_its_variable_names(field: str, tmp_path: Path) -> None:
    # Given a file with the value and, as editors leave it, a line break
    value, expected = VALUES[field]
    file = tmp_path / field
    file.write_text(f"{value}\n")
    # When the variable with _FILE names it
    settings = Settings.load({**environ_for(field), f"{field.upper()}_FILE": str(file)})
    # Then the field has its value, without the line break
    assert getattr(settings, field) == expected


@pytest.mark.parametrize("field", VALUES)
def test_a_setting_given_twice_is_refused_by_name(field: str, tmp_path: Path) -> None:
    # Given a variable and its _FILE
    value, _ = VALUES[field]
    (tmp_path / "file").write_text(value)
    environ = {**environ_for(field), field.upper(): value, f"{field.upper()}_FILE": str(tmp_path / "file")}
    # When the settings are loaded, then the error names both
    with pytest.raises(ConfigError, match=rf"^{field.upper()} and {field.upper()}_FILE are both set"):
        Settings.load(environ)


@pytest.mark.parametrize("field", VALUES)
def test_an_empty_variable_counts_as_absent(field: str) -> None:
    # Given that compose passes on variables that nobody set
    environ = {field.upper(): "", f"{field.upper()}_FILE": ""}
    # Then nothing is different
    assert Settings.load(environ) == Settings.load({})


def test_an_empty_variable_does_not_contradict_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ghp_x")
    settings = Settings.load({"GITHUB_TOKEN": "", "GITHUB_TOKEN_FILE": str(tmp_path / "token")})
    assert settings.github_token == SecretStr("ghp_x")


def test_variables_of_others_are_left_alone() -> None:
    assert Settings.load({"PATH": "/bin", "BROKER": "x", "HEALTH": "y"}) == Settings.load({})


def test_a_file_that_is_not_there_is_refused_by_the_name_of_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^GITHUB_TOKEN_FILE: cannot read .*/nothing: No such file"):
        Settings.load({"GITHUB_TOKEN_FILE": str(tmp_path / "nothing")})


def test_a_folder_in_the_place_of_a_file_is_refused_by_the_name_of_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^GITHUB_TOKEN_FILE: cannot read .*: Is a directory"):
        Settings.load({"GITHUB_TOKEN_FILE": str(tmp_path)})


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_an_empty_file_is_refused_by_the_name_of_its_variable(content: str, tmp_path: Path) -> None:
    # An empty password is a mistake of who made the file, never a wish.
    (tmp_path / "token").write_text(content)
    with pytest.raises(ConfigError, match=r"^GITHUB_TOKEN_FILE: .*/token is empty"):
        Settings.load({"GITHUB_TOKEN_FILE": str(tmp_path / "token")})


def test_a_file_that_is_no_text_is_refused_by_the_name_of_its_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"^GITHUB_TOKEN_FILE: .*/token is not UTF-8"):
        Settings.load({"GITHUB_TOKEN_FILE": str(tmp_path / "token")})


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("BROKER_URL", url)
            for url in ("redis://", "http://h", "rabbitmq", "amqp://", "amqp:///x", "//h", "memory://")
        ),
        *(("BROKER_URL", url) for url in ("amqp://h;", ";amqp://h", "amqp://h;http://h", "amqp://[h", "amqp://h:port")),
        *(("REDIS_URL", url) for url in ("amqp://h", "redis:", "redis:///0", "unix:///run/redis", "redis://h:x/0")),
        *(("GITHUB_API_URL", url) for url in ("ftp://h", "api.github.com", "https://", "file:///etc/passwd")),
        *(("PUBLISH_TIMEOUT", number) for number in ("0", "-1", "nan", "inf", "soon")),
        *(("LOG_LEVEL", level) for level in ("debug", "TRACE", "10")),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        Settings.load({**(BROKER_AND_REDIS if name.endswith("S_URL") or "ER_" in name else {}), name: value})


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"LOG_LEVEL: .*; PUBLISH_TIMEOUT: "):
        Settings.load({"PUBLISH_TIMEOUT": "0", "LOG_LEVEL": "loud"})


@pytest.mark.parametrize(("given_one", "missing"), [("BROKER_URL", "REDIS_URL"), ("REDIS_URL", "BROKER_URL")])
def test_broker_and_redis_are_set_together_or_not_at_all(given_one: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"^{given_one} is set but {missing} is not: set both, or neither"):
        Settings.load({given_one: BROKER_AND_REDIS[given_one]})


def test_without_a_broker_the_mode_is_embedded() -> None:
    assert Settings.load({}).embedded
    assert not Settings.load(BROKER_AND_REDIS).embedded


def test_a_setting_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load({}).log_level = "DEBUG"


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValueError, match="broker_uri"):
        Settings(broker_uri="amqp://h")  # type: ignore[call-arg]  # the point of the test


def test_reports_are_kept_below_the_local_folder_unless_told_otherwise() -> None:
    assert Settings.load({"LOCAL_DIR": "/data"}).reports_location == "/data/reports"
    assert Settings.load({"REPORTS_URL": "s3://bucket/x"}).reports_location == "s3://bucket/x"


# --- Passwords --------------------------------------------------------------------------------------------------------


def test_the_password_goes_into_each_part_of_a_failover_url() -> None:
    # Given two brokers and one password
    settings = Settings.load(
        {**BROKER_AND_REDIS, "BROKER_URL": "amqp://a@one:5672//;amqp://a@two:5672/v", "BROKER_PASSWORD": "hunter2"}
    )
    # Then each URL has it
    assert settings.broker_urls() == "amqp://a:hunter2@one:5672//;amqp://a:hunter2@two:5672/v"


def test_a_further_host_has_all_else_of_the_url() -> None:
    # Given one URL, and hosts that are nodes of the same broker
    settings = Settings.load(
        {
            "BROKER_URL": "amqps://a@one:5671/v",
            "BROKER_FAILOVER": "two, three",
            "REDIS_URL": "redis://r",
            "BROKER_PASSWORD": "hunter2",
        }
    )
    # Then there is a URL for each
    assert settings.broker_urls() == ";".join(f"amqps://a:hunter2@{host}:5671/v" for host in ("one", "two", "three"))


def test_a_further_host_may_be_reached_without_user_and_port() -> None:
    settings = Settings.load({"BROKER_URL": "amqp://one", "BROKER_FAILOVER": "two", "REDIS_URL": "redis://r"})
    assert settings.broker_urls() == "amqp://one;amqp://two"


def test_an_authority_for_no_encrypted_connection_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="TLS_CA_FILE is set, but neither is BROKER_URL amqps:// nor REDIS_URL redis"):
        Settings.load({**BROKER_AND_REDIS, "TLS_CA_FILE": "/etc/ssl/ca.pem"})


def test_a_broker_is_reached_with_tls_or_without() -> None:
    with pytest.raises(ConfigError, match="BROKER_URL has parts with and without TLS"):
        Settings.load({**BROKER_AND_REDIS, "BROKER_URL": "amqps://one;amqp://two"})


def test_further_hosts_of_no_broker_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="BROKER_FAILOVER is set but BROKER_URL is not"):
        Settings.load({"BROKER_FAILOVER": "two"})


def test_a_password_in_the_url_wins() -> None:
    settings = Settings.load(
        {"BROKER_URL": "amqp://a:own@one//;amqp://a@two//", "REDIS_URL": "redis://:own@r", "BROKER_PASSWORD": "other"}
    )
    assert settings.broker_urls() == "amqp://a:own@one//;amqp://a:other@two//"
    assert settings.redis_location() == "redis://:own@r"


def test_redis_takes_a_password_without_a_user() -> None:
    settings = Settings.load({**BROKER_AND_REDIS, "REDIS_URL": "redis://redis:6379/0", "REDIS_PASSWORD": "hunter3"})
    assert settings.redis_location() == "redis://:hunter3@redis:6379/0"


def test_an_address_in_brackets_keeps_them() -> None:
    assert with_password("amqp://a@[::1]:5672//", SecretStr("p")) == "amqp://a:p@[::1]:5672//"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_password_arrives_at_the_broker_as_it_was(password: str) -> None:
    # Given a password with anything in it that means something in a URL
    url = with_password("amqp://reporter@rabbitmq:5672//", SecretStr(password))
    # When kombu reads the URL
    connection = Connection(url)
    # Then it finds the same password, and everything else at its place
    found = (connection.userid, connection.password, connection.hostname, connection.port, connection.virtual_host)
    assert found == ("reporter", password, "rabbitmq", 5672, "/")


@given(st.text("ab@:;/?#%[]& é", min_size=1))
def test_a_password_does_not_split_a_failover_url(password: str) -> None:
    urls = with_password("amqp://a@one//", SecretStr(password))
    assert ";" not in urls and urls.count("@") == 1


def test_a_secret_is_never_shown() -> None:
    # Given secrets by themselves, and inside URLs
    settings = Settings.load(
        {
            "BROKER_URL": "amqp://a:hunter2@one//",
            "REDIS_URL": "redis://a:hunter2@r",
            "REPORTS_URL": "s3://key:hunter2@bucket",
            "BROKER_PASSWORD": "hunter2",
            "REDIS_PASSWORD": "hunter2",
            "GITHUB_TOKEN": "hunter2",
        }
    )
    # When the settings are logged, then no secret is
    assert "hunter2" not in shown(settings)


@pytest.mark.parametrize(
    "environ",
    [
        {"BROKER_URL": "amqp://a:hunter2@one//"},
        {"BROKER_URL": "http://a:hunter2@one//", "REDIS_URL": "redis://r"},
        {"BROKER_URL": "amqp://a:hunter2\u2100@one//", "REDIS_URL": "redis://r"},
        {"BROKER_URL": "amqp://a:hunter2/@one//", "REDIS_URL": "redis://r"},
        {"BROKER_URL": "amqp://one", "REDIS_URL": "hunter2"},
        {"GITHUB_TOKEN": "hunter2", "LOG_LEVEL": "hunter2", "PUBLISH_TIMEOUT": "hunter2"},
        {"GITHUB_API_URL": "hunter2"},
    ],
)
def test_an_error_never_shows_a_value(environ: dict[str, str]) -> None:
    # Given a wrong setting with a secret in it
    with pytest.raises(ConfigError) as caught:
        Settings.load(environ)
    # Then neither the error nor what it came from shows the secret
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"TASK_SERIALIZER": "pickle"}, "TASK_SERIALIZER"),
        ({"TASK_ACCEPT": "json,pickle"}, "TASK_ACCEPT"),
        ({"TASK_COMPRESSION": "bzip2"}, "TASK_COMPRESSION"),
        ({"BROKER_VISIBILITY_TIMEOUT": "60"}, "BROKER_VISIBILITY_TIMEOUT must be at least 1800 s"),
        ({**BROKER_AND_REDIS, "BROKER_URL": "redis://a/1;redis://b/1"}, "BROKER_URL names several brokers"),
        ({**BROKER_AND_REDIS, "BROKER_URL": "amqp://a;redis://b/1"}, "BROKER_URL names several brokers"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Settings.load(environ)


@pytest.mark.parametrize(
    ("environ", "package"),
    [
        ({"TASK_SERIALIZER": "msgpack"}, "msgpack"),
        ({"TASK_SERIALIZER": "yaml"}, "yaml"),
        ({"TASK_ACCEPT": "yaml"}, "yaml"),
        ({"TASK_COMPRESSION": "zstd"}, "backports.zstd"),
    ],
)
def test_a_choice_whose_package_is_missing_is_refused_at_the_start(
    environ: dict[str, str], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        assert name in (package, "compression.zstd")

    monkeypatch.setattr("shared.serializers.find_spec", missing)
    monkeypatch.setattr("shared.compression.find_spec", missing)
    with pytest.raises(ConfigError, match=r"needs a package: pip install 'taskhouse\[choices\]'"):
        Settings.load(environ)


@pytest.mark.parametrize(
    ("environ", "broker"),
    [
        ({}, "embedded"),
        (BROKER_AND_REDIS, "declared_ahead"),
        ({**BROKER_AND_REDIS, "BROKER_URL": "redis://a@redis/1"}, "over_redis"),
        ({**BROKER_AND_REDIS, "BROKER_URL": "rediss://a@redis/1"}, "over_redis"),
    ],
)
def test_there_is_one_broker(environ: dict[str, str], broker: str) -> None:
    settings = Settings.load(environ)
    assert [kind for kind in ("embedded", "declared_ahead", "over_redis") if getattr(settings, kind)] == [broker]
    assert settings.accepts == ("json",)
