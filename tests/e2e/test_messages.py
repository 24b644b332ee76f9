"""Programs without Celery call tasks as docs/messages.md says."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from shared.config import Settings
from shared.scope import scope
from shared.signatures import calculator
from tests.e2e.houses import ROOT, ComposeHouse
from tests.missing import missing

NODE = ROOT / "examples" / "node"
PAGE = (ROOT / "docs" / "messages.md").read_text()


def test_the_message_on_the_page_is_what_celery_sends(tmp_path: Path) -> None:
    # Given a publisher without a server, whose messages are files
    from shared.app import create_app
    from shared.embedded.transport import Transport

    Transport.global_state.clear()
    app = create_app(settings=Settings(local_dir=tmp_path), current=False)
    # When the call of the page is made
    with scope(locale="fr"):
        signature = calculator.multiply(6, 7)
        app.send_task(signature.task, (), signature.kwargs, task_id="6b0e3c1e-5a0f-4c3a-9d0e-2f1d4c9a7b11")
    (file,) = (tmp_path / "broker" / "messages").glob("*.calculator.msg")
    sent = json.loads(file.read_text())
    app.close()
    # Then it is the page's message, but for where and when it was made
    shown = json.loads(re.findall(r"^```json\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)[0])
    made = {"origin": "", "first_published": "", "due": ""}
    assert {**sent["headers"], **made} == {**shown["headers"], **made}
    assert made.keys() <= sent["headers"].keys() & shown["headers"].keys()
    assert json.loads(base64.b64decode(sent["body"])) == shown["body"]
    properties = shown["properties"]
    assert (sent["content-type"], sent["content-encoding"]) == (
        properties["content_type"],
        properties["content_encoding"],
    )
    assert sent["properties"]["correlation_id"] == properties["correlation_id"]
    assert sent["properties"]["delivery_mode"] == properties["delivery_mode"]


@pytest.fixture(scope="module")
def servers(cluster: ComposeHouse) -> dict[str, str]:
    """The environment of a program beside the cluster: broker and result store with the operator's passwords."""
    secrets = "(open(f'/run/secrets/{name}_password').read() for name in ('broker', 'redis'))"
    broker, redis = (quote(one, safe="") for one in cluster.publisher(f"print(*{secrets})").stdout.split())
    # Redis is not published: on this machine its container is reached by its own address.
    networks = cluster.containers("redis")[0]["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    return os.environ | {
        "BROKER_URL": f"amqp://operator:{broker}@127.0.0.1:{cluster.ports['RABBITMQ_PORT']}/%2F",
        "REDIS_URL": f"redis://operator:{redis}@{address}:6379/0",
    }


def answer(command: list[str], servers: dict[str, str], cwd: Path = ROOT) -> dict[str, object]:
    """What a program prints that must succeed."""
    done = subprocess.run(command, cwd=cwd, env=servers, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.containers
def test_a_plain_amqp_client_calls_a_task_and_reads_its_result(servers: dict[str, str]) -> None:
    got = answer([sys.executable, "examples/plain_amqp.py", "6", "7"], servers)
    assert (got["status"], got["result"]) == ("SUCCESS", 42)


@pytest.mark.containers
def test_a_plain_clients_wrong_argument_is_named(servers: dict[str, str]) -> None:
    got = answer([sys.executable, "examples/plain_amqp.py", "6", '"seven"'], servers)
    assert got["status"] == "FAILURE" and "b.int" in json.dumps(got["result"])


@pytest.mark.containers
def test_a_plain_clients_scope_is_the_tasks(servers: dict[str, str]) -> None:
    script = (
        "import json, os; from examples.plain_amqp import publish, result; "
        "id = publish(os.environ['BROKER_URL'], 'scoped.show', scope={'locale': 'kk', 'deep': {'n': [1, 2.5, None]}}); "
        "print(json.dumps(result(os.environ['REDIS_URL'], id)))"
    )
    got = answer([sys.executable, "-c", script], servers)
    assert got["result"] == {"locale": "kk", "deep": {"n": [1, 2.5, None]}}


@pytest.mark.containers
def test_a_node_program_calls_a_task_and_reads_its_result(servers: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        missing("the Node.js publisher needs node and npm")
    # Given the program as it is shipped, and what it needs
    for name in ("package.json", "package-lock.json", "multiply.mjs"):
        shutil.copy(NODE / name, tmp_path)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    # When it calls, then it has the result
    got = answer(["node", "multiply.mjs", "6", "7"], servers, tmp_path)
    assert (got["status"], got["result"]) == ("SUCCESS", 42)
