"""Real programs with the framework installed: a 500 becomes a mail, and the request is not held for it."""

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.mail.worker import MailerWorker
from tests.ports import free_port
from tests.stand_ins.smtp import Received, SmtpStandIn
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
PASSWORD, CARD = "correct-horse-battery", "4111111111111111"
#: Seconds that a request may be held, as promised.
HELD = 0.05


@contextmanager
def running(command: list[str], environ: Mapping[str, str]) -> Iterator[str]:
    """The program, for as long as the block; gives its address."""
    port = free_port()
    program = subprocess.Popen(
        [part.replace("PORT", str(port)) for part in command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: status(url) == 200 or program.poll() is not None)
        assert program.poll() is None, f"{command} ended"
        yield url
    finally:
        program.terminate()
        with suppress(subprocess.TimeoutExpired):
            program.wait(10)
        program.kill()
        program.wait()


def status(url: str, form: str | None = None) -> int:
    """What the program answers; 0 where it does not."""
    try:
        return int(urllib.request.urlopen(url, form.encode() if form else None, timeout=20).status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def pay(url: str) -> int:
    """Ask for what is broken."""
    return status(f"{url}/pay?token={PASSWORD}", f"card={CARD}&password={PASSWORD}&amount=100")


DJANGO = [sys.executable, "examples/django/manage.py", "runserver", "--noreload", "127.0.0.1:PORT"]
FLASK = [sys.executable, "-m", "flask", "--app", "examples/flask/app.py", "run", "--port", "PORT"]
PROGRAMS = pytest.mark.parametrize("command", [DJANGO, FLASK], ids=["django", "flask"])


def everything(mail: Received) -> str:
    """All that a reader could find in a mail."""
    parts = [part.get_content() for part in mail.message.walk() if part.get_content_maintype() == "text"]
    return "\n".join([*map(str, mail.message.values()), *parts])


@PROGRAMS
def test_a_500_arrives_with_its_traceback_and_without_its_secrets(
    smtp: SmtpStandIn, start_worker: Callable[..., MailerWorker], tmp_path: Path, command: list[str]
) -> None:
    # Given a program, and a mailer's worker
    start_worker()
    with running(command, {"LOCAL_DIR": str(tmp_path / "house")}) as url:
        # When somebody pays, and the program breaks
        assert pay(url) == 500
        # Then the administrators have it
        mail = smtp.wait_for_mails(1)[0]
    assert mail.recipients == ["admin@example.org"]
    assert "pay" in mail.message["Subject"] or "ZeroDivisionError" in mail.message["Subject"]
    text = everything(mail)
    assert "ZeroDivisionError" in text and "Traceback" in text and "100" in text and "/pay" in text
    # And neither the password nor the card
    assert PASSWORD not in text and CARD not in text


def test_djangos_html_report_has_no_secrets_either(
    smtp: SmtpStandIn, start_worker: Callable[..., MailerWorker], tmp_path: Path
) -> None:
    # Given a project that asks Django for its long report, with every variable of every frame
    project = tmp_path / "project"
    (project / "long").mkdir(parents=True)
    (project / "long" / "__init__.py").touch()
    (project / "long" / "settings.py").write_text(
        "from shop.settings import *\n"
        "ROOT_URLCONF = 'long.urls'\n"
        "LOGGING['handlers']['mail_admins']['include_html'] = True\n"
    )
    # And a view that has a secret of its own, one in its source, and the user's in the exception's text
    (project / "long" / "urls.py").write_text(
        "import os\n"
        "from django.urls import path\n"
        "from shop.urls import index\n"
        "def pay(request):\n"
        "    vault_key = os.environ['VAULT_TOKEN']\n"
        "    api_key = 'key-in-the-source'\n"
        "    raise ValueError('no money at ' + request.POST['card'] + ' of ' + request.POST['password'])\n"
        "urlpatterns = [path('', index), path('pay', pay)]\n"
    )
    start_worker()
    environ = {
        "LOCAL_DIR": str(tmp_path / "house"),
        "DJANGO_SETTINGS_MODULE": "long.settings",
        "PYTHONPATH": f"{ROOT}:{project}",
        "VAULT_TOKEN": "key-from-the-vault",
    }
    with running(DJANGO, environ) as url:
        assert pay(url) == 500
        mail = smtp.wait_for_mails(1)[0]
    html = mail.message.get_body(("html",))
    assert html is not None and "ValueError" in html.get_content()
    for secret in (PASSWORD, CARD, "key-from-the-vault", "key-in-the-source"):
        assert secret not in everything(mail)


def test_a_500_of_fastapi_arrives_too(
    smtp: SmtpStandIn, start_worker: Callable[..., MailerWorker], tmp_path: Path
) -> None:
    # Given an application whose server logs what it did not expect, without the request
    (tmp_path / "shop.py").write_text(
        "from logging.config import dictConfig\n"
        "from fastapi import FastAPI, Request\n"
        "dictConfig({'version': 1, 'disable_existing_loggers': False,\n"
        "  'handlers': {'mail': {'class': 'shared.error_mail.ErrorMailHandler', 'level': 'ERROR'}},\n"
        "  'loggers': {'uvicorn.error': {'handlers': ['mail']}}})\n"
        "app = FastAPI()\n"
        "@app.get('/')\n"
        "async def index(): return 'open'\n"
        "@app.post('/pay')\n"
        "async def pay(request: Request):\n"
        "    body = await request.body()\n"
        "    return 100 / (len(body) * 0)\n"
    )
    start_worker()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "--port", "PORT", "shop:app"]
    with running(command, {"LOCAL_DIR": str(tmp_path / "house")}) as url:
        # When it breaks
        assert pay(url) == 500
        mail = smtp.wait_for_mails(1)[0]
    # Then the administrators have it, with the request that the server was called with
    assert "ZeroDivisionError" in mail.message["Subject"] and "POST /pay?token=" in mail.text
    assert PASSWORD not in everything(mail) and CARD not in everything(mail)


@PROGRAMS
def test_equal_errors_of_a_program_are_one_mail(
    smtp: SmtpStandIn, start_worker: Callable[..., MailerWorker], tmp_path: Path, command: list[str]
) -> None:
    worker = start_worker()
    with running(command, {"LOCAL_DIR": str(tmp_path / "house")}) as url:
        assert [pay(url) for _ in range(10)] == [500] * 10
        smtp.wait_for_mails(1)
        eventually(lambda: worker.log.read_text().count("succeeded") == 10)
    assert len(smtp.mails) == 1


@PROGRAMS
@pytest.mark.parametrize("broker", ["refuses", "says nothing"])
def test_a_request_is_not_held_while_the_broker_is_away(tmp_path: Path, command: list[str], broker: str) -> None:
    # Given a program whose broker is away
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if broker == "says nothing":
            listener.listen(64)
        environ = {
            "LOCAL_DIR": str(tmp_path / "house"),
            "BROKER_URL": f"amqp://shop:x@127.0.0.1:{listener.getsockname()[1]}//",
            "REDIS_URL": "redis://127.0.0.1:1/0",
        }
        with running(command, environ) as url:
            # When it answers requests that work, and some that break
            working, broken = [], []
            for _ in range(60):
                start = time.perf_counter()
                assert status(url) == 200
                middle = time.perf_counter()
                assert pay(url) == 500
                working.append(middle - start)
                broken.append(time.perf_counter() - middle)
            # Then the report costs less than it may
            assert statistics.median(broken) - statistics.median(working) < HELD
            # And every one of them is kept
            eventually(lambda: len(list((tmp_path / "house" / "error-spool").glob("*.json"))) == 60)
