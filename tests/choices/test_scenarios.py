"""The scenarios of the house under a team's other choices, each pair of which is met at least once."""

import json
import random
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations, product
from typing import Any
from uuid import uuid4

import pytest
from celery import chord
from kombu import Connection, Exchange, Producer
from kombu.utils import json as kombu_json

from shared import serializers
from shared.compression import LARGEST_BODY, ZLIB, ZSTD
from shared.dead_letters.replay import Outcome, Records, Replay
from shared.dead_letters.shelf import shelf
from shared.scope import scope
from shared.signatures import calculator, mailer, reporter, scoped
from shared.topology import dead_letter_queue
from tests.choices.house import Choice, House, house
from tests.choices.servers import Servers, until

pytestmark = pytest.mark.containers

PATIENCE = 60
#: Each pair of a serializer and a pool, and with them each of every other two.
CHOICES = (
    Choice("redis", "json", "none", "prefork"),
    Choice("rabbitmq", "json", "zlib", "threads"),
    Choice("rabbitmq", "json", "zstd", "gevent"),
    Choice("redis", "json", "none", "solo"),
    Choice("rabbitmq", "msgpack", "zlib", "prefork"),
    Choice("redis", "msgpack", "zstd", "threads"),
    Choice("redis", "msgpack", "none", "gevent"),
    Choice("rabbitmq", "msgpack", "zlib", "solo"),
    Choice("rabbitmq", "yaml", "zstd", "prefork"),
    Choice("rabbitmq", "yaml", "none", "threads"),
    Choice("redis", "yaml", "zlib", "gevent"),
    Choice("redis", "yaml", "zstd", "solo"),
)
VALUES = {
    "broker": ("rabbitmq", "redis"),
    "serializer": ("json", "msgpack", "yaml"),
    "compression": ("none", "zlib", "zstd"),
    "pool": ("prefork", "threads", "gevent", "solo"),
}


def test_every_pair_of_choices_is_met() -> None:
    met = {
        frozenset([(a, getattr(choice, a)), (b, getattr(choice, b))])
        for choice in CHOICES
        for a, b in combinations(VALUES, 2)
    }
    wanted = {
        frozenset([(a, one), (b, other)])
        for a, b in combinations(VALUES, 2)
        for one, other in product(VALUES[a], VALUES[b])
    }
    assert wanted - met == set()


@pytest.fixture(scope="module", params=list(enumerate(CHOICES, start=1)), ids=lambda param: str(param[1]))
def place(
    request: pytest.FixtureRequest, both_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """The whole house under one choice."""
    database, choice = request.param
    with house(both_servers, choice, tmp_path_factory.mktemp(f"choice{database}"), database) as one:
        yield one


def test_the_choice_is_in_force(place: House) -> None:
    # When a message is published to a service that does not run here, then it is written and packed as chosen
    place.app.send_task("webhook.nothing", kwargs={"x": "y" * 1000})
    with place.app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("webhook", no_ack=True)
    assert message.content_type == serializers.SERIALIZERS[place.choice.serializer].content_type
    assert message.headers.get("compression") == {"none": None, "zlib": ZLIB, "zstd": ZSTD}[place.choice.compression]
    # And every worker has the pool that was chosen
    stats = place.app.control.inspect(timeout=30, limit=len(place.workers)).stats()
    modules = {"threads": "celery.concurrency.thread", "gevent": "celery.concurrency.gevent"}
    module = modules.get(place.choice.pool, f"celery.concurrency.{place.choice.pool}")
    assert {one["pool"]["implementation"].partition(":")[0] for one in stats.values()} == {module}
    assert len(stats) == len(place.workers)
    if place.choice.pool == "threads":
        # Which cannot grow: the larger number at once, though the command says --autoscale.
        assert {one["pool"]["max-concurrency"] for one in stats.values()} == {2}


def test_a_report_is_made(place: House) -> None:
    # When the week's report is asked for
    told = reporter.produce_report(period="week").delay().get(timeout=PATIENCE)
    # Then its CSV is there
    lines = (place.reports / told["name"]).read_text().splitlines()
    assert (told["repositories"], len(lines)) == (500, told["rows"])


def test_mail_arrives_and_a_notice_is_in_the_language_of_its_scope(place: House) -> None:
    before = len(place.smtp.mails)
    sent = mailer.send_email(to=["ann@example.org"], subject="Größe", text="日本語\n").delay()
    with scope(locale="fr"):
        notice = scoped.notify("bo@example.org", "report_ready", repositories=2, ref_date="2026-03-15").delay()
    assert sent.get(timeout=PATIENCE)["sent"] == ["ann@example.org"]
    assert notice.get(timeout=PATIENCE)["sent"] == ["bo@example.org"]
    texts = {mail.recipients[0]: mail.text.strip() for mail in place.smtp.mails[before:]}
    assert texts == {"ann@example.org": "日本語", "bo@example.org": "Le rapport contient 2 dépôts."}


def test_canvases_scopes_delays_and_retries(place: House) -> None:
    total = chord([calculator.multiply(n, n) for n in range(5)], calculator.total.s()).delay()
    apart = calculator.count_down(2).delay()
    unsteady = calculator.unsteady(1).delay()
    # A callback with a date in its options, and a scope
    asked = datetime.now(UTC)
    later = (calculator.add(1, 2) | calculator.add.s(3).set(eta=asked + timedelta(seconds=2))).delay()
    with scope(locale="ja", deep={"list": [1, 2.5, None, True, "Қазақша"]}):
        shown = scoped.show(2).delay()
    assert total.get(timeout=PATIENCE) == 30
    assert apart.get(timeout=PATIENCE) == 3
    assert unsteady.get(timeout=PATIENCE) == 2
    assert later.get(timeout=PATIENCE) == 6
    assert shown.get(timeout=PATIENCE) == {"locale": "ja", "deep": {"list": [1, 2.5, None, True, "Қазақша"]}}
    assert datetime.now(UTC) - asked >= timedelta(seconds=1)


def test_a_failure_is_a_dead_letter_that_can_be_read_and_replayed(place: House) -> None:
    # Given a task that fails for good
    failed = calculator.add_days(3_000_000).delay()
    with pytest.raises(Exception, match="no day lies"):
        failed.get(timeout=PATIENCE)
    # Then its letter says what and why
    letter = place.letter(failed.id)
    assert (letter.task, letter.reason) == ("calculator.add_days", "invalid_arguments")
    assert letter.properties["content_type"] == serializers.SERIALIZERS[place.choice.serializer].content_type
    assert letter.payload[1] == {"days": 3_000_000} and "no day lies" in letter.exception
    assert (letter.exchange, letter.routing_key) == ("tasks", "calculator.add_days")
    json.dumps(letter.as_dict())
    # When it is replayed, as it is and then with arguments that will do
    records = Records(place.app.backend.client)
    with shelf(place.app, dead_letter_queue("calculator")) as letters:
        for one in letters:
            if one.id == failed.id:
                assert Replay(place.app, records)(one) == Outcome.REPLAYED
                letters.remove(one)
    again = place.letter(failed.id)
    assert (again.replays, again.payload) == (1, letter.payload)
    with shelf(place.app, dead_letter_queue("calculator")) as letters:
        for one in letters:
            if one.id == failed.id:
                mended = Replay(place.app, records, kwargs={"days": 1, "to": "2026-12-31"})
                assert mended(one) == Outcome.REPLAYED
                letters.remove(one)
    until("it is done", lambda: failed._get_task_meta() and fresh(place, failed.id) == "2027-01-01")
    assert failed.id not in {one.id for one in place.letters("calculator")}


def fresh(place: House, task_id: str) -> Any:
    """A result as the store has it now."""
    return json.loads(place.app.backend.client.get(f"celery-task-meta-{task_id}"))["result"]


# --- Messages that are none -------------------------------------------------------------------------------------------


def zeros(size: int) -> bytes:
    return b"[" + b" " * size + b"[], {}, {}]"


def zstd(body: bytes) -> bytes:
    from shared.compression import _pack_zstd, _zstd

    return _pack_zstd(body) if len(body) <= LARGEST_BODY else bytes(_zstd().compress(body))


MALFORMED: dict[str, tuple[str, bytes, str | None]] = {
    "cut off": ("own", b"", None),
    "noise": ("own", random.Random(1).randbytes(1000), None),
    "zlib that is none": ("application/json", b"[[], {}, {}]", ZLIB),
    "zlib that is cut off": ("application/json", zlib.compress(zeros(9999))[:-9], ZLIB),
    "a bomb of zlib": ("application/json", zlib.compress(zeros(64 * 2**20)), ZLIB),
    "zstd that is none": ("application/json", b"[[], {}, {}]", ZSTD),
    "zstd that is cut off": ("application/json", zstd(zeros(9999))[:-3], ZSTD),
    "a bomb of zstd": ("application/json", zstd(zeros(64 * 2**20)), ZSTD),
    "a packing that is not taken": ("application/json", b"BZh9", "application/x-bz2"),
    "pickle": ("application/x-python-serialize", b"\x80\x04N.", None),
    "an extension type": ("application/x-msgpack", b"\xd4\x01\x00", None),
    "an alias": ("application/x-yaml", b"[&a [], {}, *a]", None),
    "an object of Python": ("application/x-yaml", b"!!python/object/apply:os.getpid []", None),
}


def test_no_message_ends_the_worker_or_is_lost(place: House) -> None:
    # Given messages that nobody can read, in the house's own serializer and in every packing
    own = serializers.SERIALIZERS[place.choice.serializer]
    written = dict(zip(MALFORMED, (str(uuid4()) for _ in MALFORMED), strict=True))
    with place.app.connection_for_write() as connection:
        for what, (content_type, body, packing) in MALFORMED.items():
            if what == "cut off":
                body = _encoded(place)[:-4]
            kind = own.content_type if content_type == "own" else content_type
            _publish(place, connection, written[what], body, kind, packing)
    # When they arrive, and then a good one in JSON, which every worker takes
    good = str(uuid4())
    with place.app.connection_for_write() as connection:
        body = json.dumps([[], {"a": 6, "b": 7}, {}]).encode()
        _publish(place, connection, good, body, "application/json", None)
    assert place.app.AsyncResult(good).get(timeout=PATIENCE) == 42
    # Then each is a dead letter, and the worker is the one that it was
    for what, task_id in written.items():
        letter = place.letter(task_id)
        assert (what, letter.reason, letter.payload) == (what, "malformed", None)
    assert place.workers["calculator"].process.poll() is None


def _encoded(place: House) -> bytes:
    value = [[], {"a": 1, "b": 2}, {"callbacks": None}]
    if place.choice.serializer == "json":
        return kombu_json.dumps(value).encode()
    encoded = serializers._CODECS[place.choice.serializer][0](value)
    return encoded.encode() if isinstance(encoded, str) else encoded


def _publish(
    place: House, connection: Connection, task_id: str, body: bytes, content_type: str, packing: str | None
) -> None:
    headers = {"lang": "py", "task": "calculator.multiply", "id": task_id, "ignore_result": False}
    producer = Producer(connection.default_channel, auto_declare=False)
    over_redis = place.app.settings.over_redis
    producer.publish(
        body,
        exchange=Exchange("" if over_redis else "tasks", "topic", no_declare=True),
        routing_key="calculator" if over_redis else "calculator.multiply",
        content_type=content_type,
        content_encoding="binary" if content_type != "application/json" else "utf-8",
        headers={**headers, **({"compression": packing} if packing else {})},
    )
