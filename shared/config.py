"""Settings: from environment variables, or from the files that `<NAME>_FILE` variables point to."""

import math
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    model_validator,
)

from shared import compression, mail_text, serializers
from shared.errors import ConfigError
from shared.topology import CONSUMER_TIMEOUT, MAX_MESSAGE_SIZE

#: Seconds. RabbitMQ's consumer timeout, under which every task's hard limit lies (shared/topology.py).
SHORTEST_VISIBILITY = CONSUMER_TIMEOUT
#: Schemes of a broker's URL.
BROKERS = ("amqp", "amqps", "pyamqp", "librabbitmq", "redis", "rediss")


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        for one in value.split(";"):
            if not _names_a_host(one, schemes):
                raise ValueError(
                    f"must be a URL like {schemes[0]}://host, with one of the schemes {', '.join(schemes)}"
                )
        return value

    return AfterValidator(check)


def _names_a_host(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        return url == url.strip() and parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message would show the URL, and the password in it
        return False


def _positive(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError("must be seconds, more than 0")
    return value


Seconds = Annotated[float, AfterValidator(_positive)]
Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(mail_text.address)], ...],
    BeforeValidator(mail_text.addresses),
    Field(min_length=1),
]


def _serializer(name: serializers.Name) -> serializers.Name:
    if not serializers.available(name):
        raise ValueError(f"{name} needs a package: pip install 'taskhouse[choices]'")
    return name


def _compression(name: compression.Name) -> compression.Name:
    if not compression.available(name):
        raise ValueError(f"{name} needs a package: pip install 'taskhouse[choices]'")
    return name


_COMMAS = BeforeValidator(mail_text.addresses)
_HOST = r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"


class Settings(BaseModel):
    """What a process can be told from outside. Each field is the environment variable of its name in capitals.

    Attributes:
        broker_url: AMQP URL, several split by `;` for failover; or a Redis URL, for less (docs/choices.md). None starts
            the embedded mode. `amqp://` takes the client that is installed, `pyamqp://` and `librabbitmq://` name one.
        broker_failover: further hosts of the same broker, split by commas; user, port and virtual host are those of
            `broker_url`.
        broker_password: of the user that `broker_url` names, where the URL does not hold it.
        broker_reads: how this process reads AMQP with py-amqp: in `pieces`, as it does unless told otherwise, or in
            `frames`, as py-amqp does by itself (docs/performance.md).
        broker_visibility_timeout: seconds after which Redis, as a broker, gives a message to another worker. A delay
            may be no longer.
        task_serializer: what this process writes the bodies of messages in: `json`, `msgpack` or `yaml`.
        task_accept: in what else than JSON and `task_serializer` a worker takes them; split by commas.
        task_compression: how this process packs them: `none`, `zlib` or `zstd`. Every worker unpacks each.
        redis_url: results, locks and counters.
        redis_password: of the user that `redis_url` names, where the URL does not hold it.
        tls_ca_file: certificate, in PEM form, of who signed those of the broker and of Redis; None for whom the machine
            trusts. It is needed where `broker_url` is amqps:// or `redis_url` is rediss://.
        reports_url: where reports are kept: a folder, or any fsspec URL.
        local_dir: what the embedded mode writes: messages, results and, unless `reports_url` says otherwise, reports.
        github_api_url: GitHub's REST API, or what stands in for it.
        github_token: raises GitHub's limit from 10 to 30 searches a minute.
        health_file: a worker makes this file again and again while it takes work; who checks it deletes it.
        status_port: where a worker or beat answers /healthz and /readyz over HTTP; None answers nobody.
        status_host: the address on which it does.
        log_level: of the worker's own log.
        log_format: of the worker's own log: `text`, or `json` with one object a line.
        task_log_dir: where each task has a log file of its own; None writes none.
        task_log_size: bytes at which such a file turns over.
        task_log_backups: how many old ones of each are kept.
        publish_timeout: seconds in which a publisher has the broker's confirmation, or an error.
        max_message_size: bytes of a message's body that the broker takes; what is larger is refused before it is sent.
        otel_exporter_otlp_endpoint: a collector of OpenTelemetry that takes OTLP over HTTP, `http://host:4318`; None
            makes no spans (docs/tracing.md).
        outbox_url: the database whose outbox a relay publishes: `sqlite:///path`, `postgresql://user@host/name`.
        outbox_password: of the user that `outbox_url` names, where the URL does not hold it.
        callback_hosts: hosts that outcomes may be POSTed to, split by commas; `*.example.org` for all below one.
        callback_secret: signs what is POSTed.
        callback_networks: private networks, like 10.1.0.0/16, that may be POSTed to all the same; split by commas.
        smtp_url: the mail server: `smtp://user@host:587/?starttls`, `smtps://user@host`. The embedded mode without it
            writes mail to files.
        smtp_password: of the user that `smtp_url` names, where the URL does not hold it.
        smtp_timeout: seconds that the mail server may take for one answer.
        mail_from: the sender, `name@domain` or `Name <name@domain>`.
        admins: who gets error reports, digests and the daily report; split by commas.
        mail_lease: seconds after which a worker that claimed a mail and said no more is taken for dead.
        attachments_limit: bytes that the attachments of one mail may have together.
        error_window: seconds in which one fingerprint makes one error mail.
        errors_per_hour: error mails in any hour, whatever their fingerprints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker_url: Annotated[str, _url(*BROKERS)] | None = Field(default=None, repr=False)
    broker_failover: Annotated[tuple[Annotated[str, Field(pattern=_HOST)], ...], _COMMAS] = ()
    broker_password: SecretStr | None = None
    broker_reads: Literal["frames", "pieces"] | None = None
    broker_visibility_timeout: Seconds = 3600.0
    task_serializer: Annotated[serializers.Name, AfterValidator(_serializer)] = "json"
    task_accept: Annotated[tuple[Annotated[serializers.Name, AfterValidator(_serializer)], ...], _COMMAS] = ()
    task_compression: Annotated[compression.Name, AfterValidator(_compression)] = "none"
    redis_url: Annotated[str, _url("redis", "rediss")] | None = Field(default=None, repr=False)
    redis_password: SecretStr | None = None
    tls_ca_file: Path | None = None
    reports_url: str = Field(default="", repr=False)
    local_dir: Path = Path(".local")
    github_api_url: Annotated[str, _url("https", "http")] = "https://api.github.com"
    github_token: SecretStr | None = None
    health_file: Path | None = None
    status_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    status_host: str = "0.0.0.0"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    task_log_dir: Path | None = None
    task_log_size: Annotated[int, Field(ge=1)] = 10 * 2**20
    task_log_backups: Annotated[int, Field(ge=0)] = 5
    publish_timeout: Seconds = 10.0
    max_message_size: Annotated[int, Field(ge=1)] = MAX_MESSAGE_SIZE
    otel_exporter_otlp_endpoint: Annotated[str, _url("http", "https")] | None = Field(default=None, repr=False)
    outbox_url: str | None = Field(default=None, repr=False)
    outbox_password: SecretStr | None = None
    callback_hosts: Annotated[tuple[Annotated[str, Field(pattern=_HOST)], ...], _COMMAS] = ()
    callback_secret: SecretStr | None = None
    callback_networks: Annotated[tuple[IPvAnyNetwork, ...], _COMMAS] = ()
    smtp_url: Annotated[str, _url("smtp", "smtps")] | None = Field(default=None, repr=False)
    smtp_password: SecretStr | None = None
    smtp_timeout: Seconds = 30.0
    mail_from: Annotated[str, AfterValidator(mail_text.mailbox)] = "taskhouse@localhost"
    admins: Addresses = ("admin@localhost",)
    mail_lease: Seconds = 180.0
    attachments_limit: Annotated[int, Field(ge=0)] = 10 * 2**20
    error_window: Seconds = 3600.0
    errors_per_hour: Annotated[int, Field(ge=1)] = 20

    @model_validator(mode="after")
    def _go_together(self) -> "Settings":
        if (self.broker_url is None) != (self.redis_url is None):
            given, missing = ("BROKER_URL", "REDIS_URL") if self.broker_url else ("REDIS_URL", "BROKER_URL")
            raise ValueError(f"{given} is set but {missing} is not: set both, or neither for the embedded mode")
        if self.broker_failover and not self.broker_url:
            raise ValueError("BROKER_FAILOVER is set but BROKER_URL is not: set both, or neither")
        brokers = (self.broker_url or "").split(";")
        if (len(brokers) > 1 or self.broker_failover) and not all(
            one.startswith(("amqp", "pyamqp", "librabbitmq")) for one in brokers
        ):
            raise ValueError("BROKER_URL names several brokers, which must all be AMQP's: give one Redis, or none")
        if self.broker_visibility_timeout < SHORTEST_VISIBILITY:
            raise ValueError(
                f"BROKER_VISIBILITY_TIMEOUT must be at least {SHORTEST_VISIBILITY} s, more than any task's hard limit: "
                "else a task that is running is given to another worker too"
            )
        if self.tls_ca_file and not any(url.startswith(("amqps:", "rediss:", "https:")) for url in self._urls()):
            raise ValueError("TLS_CA_FILE is set, but neither is BROKER_URL amqps:// nor REDIS_URL rediss://")
        if len({urlsplit(url).scheme for url in brokers}) > 1:
            raise ValueError("BROKER_URL has parts with and without TLS: give all the same scheme")
        if urlsplit(brokers[0]).scheme == "librabbitmq":
            if find_spec("librabbitmq") is None:
                raise ValueError(
                    "BROKER_URL is librabbitmq://, but librabbitmq is not installed: say amqp://, which takes what is "
                    "installed, or pyamqp:// (docs/performance.md)"
                )
            if self.broker_reads == "pieces":
                raise ValueError("BROKER_READS=pieces is py-amqp's, but BROKER_URL is librabbitmq://: say pyamqp://")
        if self.mail_lease <= self.smtp_timeout:
            raise ValueError("MAIL_LEASE must be longer than SMTP_TIMEOUT, or a slow mail goes twice")
        return self

    @property
    def reads_in_pieces(self) -> bool:
        """Whether AMQP is read in pieces. `amqp://` means librabbitmq where that is installed: it reads by itself."""
        if self.broker_reads is None:
            scheme = urlsplit(self.broker_url or "").scheme
            return scheme != "librabbitmq" and not (scheme == "amqp" and find_spec("librabbitmq") is not None)
        return self.broker_reads == "pieces"

    def _urls(self) -> tuple[str, ...]:
        return self.broker_url or "", self.redis_url or ""

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The settings that `environ` and the files that it names give.

        An empty variable counts as absent, because compose and shells cannot leave one out.

        Raises:
            ConfigError: one is wrong, or its file cannot be read. The message names the variable.
        """
        values: dict[str, str] = {}
        for field in cls.model_fields:
            name = field.upper()
            plain, path = environ.get(name), environ.get(f"{name}_FILE")
            if plain and path:
                raise ConfigError(f"{name} and {name}_FILE are both set: keep one of them")
            if path:
                values[field] = _read(f"{name}_FILE", path)
            elif plain:
                values[field] = plain
        try:
            return cls(**values)  # type: ignore[arg-type]  # pydantic converts them
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @property
    def embedded(self) -> bool:
        """Whether everything runs on this machine without any server."""
        return self.broker_url is None

    @property
    def over_redis(self) -> bool:
        """Whether Redis is the broker, with what that weakens."""
        return (self.broker_url or "").startswith("redis")

    @property
    def declared_ahead(self) -> bool:
        """Whether the broker has every exchange and queue from its own definitions, so that nobody declares one."""
        return not self.embedded and not self.over_redis

    @property
    def accepts(self) -> tuple[serializers.Name, ...]:
        """What a worker takes a task's body in. JSON always, because whoever publishes without Celery writes it."""
        return tuple(
            name for name in serializers.SERIALIZERS if name in {"json", self.task_serializer, *self.task_accept}
        )

    @property
    def reports_location(self) -> str:
        """`reports_url`, or the embedded mode's own folder."""
        return self.reports_url or str(self.local_dir / "reports")

    def broker_urls(self) -> str:
        """`broker_url` and `broker_failover` with the password in each of their parts. Never log it."""
        urls = (self.broker_url or "").split(";")
        urls += [_at(host, urls[0]) for host in self.broker_failover]
        return ";".join(with_password(url, self.broker_password) for url in urls)

    def redis_location(self) -> str:
        """`redis_url` with its password. Never log it."""
        return with_password(self.redis_url or "", self.redis_password)


def _at(host: str, url: str) -> str:
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    port = "" if parts.port is None else f":{parts.port}"
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}{port}"))


def with_password(url: str, password: SecretStr | None) -> str:
    """`url` with `password` for the user that it names, unless it has one already."""
    parts = urlsplit(url)
    if password is None or parts.password is not None:
        return url
    secret = quote(password.get_secret_value(), safe="")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{secret}@{host}"))


def _read(name: str, path: str) -> str:
    try:
        content = Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{name}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: {path} is not UTF-8 text") from None
    if not content:
        raise ConfigError(f"{name}: {path} is empty")
    return content


def _explain(error: ValidationError) -> str:
    # The value itself is left out: it may be a secret.
    complaints = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        said = problem["msg"].removeprefix("Value error, ")
        complaints.append(f"{name}: {said}" if name else said)
    return "; ".join(complaints)
