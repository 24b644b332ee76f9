"""What a worker imports until it connects, and how `taskhouse` starts it."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from shared.render.worker import worker_arguments
from shared.topology import SERVICES, service

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("taskhouse")
#: What no worker has a need of until it is asked for it, and what it is for.
NEEDLESS = {
    "celery.bin.celery": "Celery's other commands",
    "click_repl": "the shell of `celery amqp`",
    "prompt_toolkit": "the line editing of that shell",
    "shared.cli": "the operator's commands",
    "rich": "what these draw",
    "shared.render": "files that are rendered before anything runs",
    "shared.publish_batch": "publishing many, where somebody does",
    "shared.outbox": "a publisher's own transactions",
    "shared.embedded.transport": "a house without servers",
    "shared.redis_transport": "Redis as the broker",
    "shared.telemetry.exporting": "spans, where OTEL_EXPORTER_OTLP_ENDPOINT is set",
    "opentelemetry.exporter": "the same",
    "google.protobuf": "the same",
    "gevent": "the pool of that name",
    "s3fs": "reports in an object store",
    "aiobotocore": "the same",
    "botocore": "the same",
    "aiohttp": "the same",
    "redbeat": "beat",
    "shared.flower": "the dashboard",
    "flower": "the same",
    "tornado": "the same",
    "fastapi": "the gateway",
    "uvicorn": "the same",
    "jinja2": "the scaffold",
    "cryptography.x509": "the setup's certificates",
    "django.db": "publishers of other teams",
    "sqlalchemy": "the same",
    "psycopg": "the same",
}
#: What one kind of work needs, and no other has.
OWN = {
    "requests": {"reporter"},
    "urllib3": {"reporter"},
    "fsspec": {"mailer", "reporter"},
    "smtplib": {"mailer"},
    "sqlite3": {"mailer"},
    "babel": {"scoped"},
}
#: Runs `taskhouse` up to the place where a worker's tasks are there, then tells what was imported.
TELL = """
import os, sys
from celery import signals

@signals.worker_init.connect
def tell(sender, **_):
    sender.app.backend, sender.app.connection_for_read().transport_cls
    print(*sys.modules, sep="\\n", flush=True)
    os._exit(0)

from shared.start import main
main()
"""


def run(*command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run what a container would, with servers that nobody asks."""
    servers = {
        "BROKER_URL": "amqp://somebody@broker.invalid:5672//",
        "REDIS_URL": "redis://somebody@redis.invalid:6379/0",
        "STATUS_PORT": "9100",
        "MAIL_FROM": "taskhouse@example.org",
        "SMTP_URL": "smtp://mail.invalid:25",
    }
    return subprocess.run(
        command, env={**os.environ, **servers, **environ}, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@cache
def imported(name: str) -> frozenset[str]:
    """What the worker of a service has imported when it has its tasks."""
    done = run(sys.executable, "-c", TELL, *worker_arguments(service(name)))
    assert f"services.{name}.tasks" in done.stdout.split(), done.stderr
    return frozenset(done.stdout.split())


@pytest.mark.parametrize("name", [spec.name for spec in SERVICES])
def test_a_worker_imports_nothing_that_it_does_not_need(name: str) -> None:
    # When a worker has imported what it starts with, then nothing of it is for others
    others = {module: f"{sorted(needing)} alone" for module, needing in OWN.items() if name not in needing}
    assert {module: what for module, what in (NEEDLESS | others).items() if module in imported(name)} == {}
    # And no other service
    parts = {module.split(".")[1] for module in imported(name) if module.startswith("services.")}
    assert parts == {name}


def test_what_a_service_is_said_to_need_it_has() -> None:
    # Else the table above would forbid what nobody has.
    for module, needing in OWN.items():
        for name in needing:
            assert module in imported(name), (module, name)


def test_a_wrong_setting_is_told_to_a_person() -> None:
    done = run(str(COMMAND), *worker_arguments(service("calculator")), BROKER_URL="nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("BROKER_URL: must be") and "Traceback" not in done.stderr


def test_an_app_that_is_not_there_is_told_as_celery_tells_it() -> None:
    done = run(str(COMMAND), "-A", "services.nobody.app", "worker")
    assert done.returncode == 2 and "Unable to load celery application" in done.stderr, done.stderr


def test_every_other_command_is_celerys() -> None:
    done = run(str(COMMAND), "-A", "shared.app", "topology", "show", COLUMNS="200")
    assert done.returncode == 0 and "calculator" in done.stdout, done.stderr


def test_a_worker_takes_celerys_variables() -> None:
    # Given a variable that `celery worker` takes an option from
    done = run(str(COMMAND), *worker_arguments(service("calculator")), CELERY_WORKER_PREFETCH_MULTIPLIER="many")
    # Then it is read here too
    assert done.returncode == 2 and "'many' is not a valid int" in done.stderr, done.stderr
