"""What the broker loads at its start: nothing missing, nothing that kombu would declare in another way."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.connection import Connection
from kombu.transport import memory
from kombu.transport.native_delayed_delivery import (
    calculate_routing_key,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from shared.render.definitions import definitions, dump, password_hash, render
from shared.spec import ServiceSpec
from shared.topology import RESERVED_NAMES, SERVICES, queue_arguments

COMMITTED = Path(__file__).parents[2] / "compose" / "rabbitmq" / "definitions.json"

#: Two services beside the shipped ones, one name a beginning of the other.
MORE = (*SERVICES, ServiceSpec("print", "prints", calls=("printer",)), ServiceSpec("printer", "prints more"))

Binding = tuple[str, str, str, str]

words = st.text("abcxyz_019", min_size=1, max_size=12)
service_names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: name not in RESERVED_NAMES and not name.startswith("celery_")
)


@pytest.fixture
def declared() -> dict[str, Any]:
    return definitions(MORE)


def named(items: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


def bindings(declared: dict[str, Any]) -> list[Binding]:
    return [
        (each["source"], each["destination_type"], each["destination"], each["routing_key"])
        for each in declared["bindings"]
    ]


# --- A small RabbitMQ -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    # `*` is one word, `#` any number of them: https://www.rabbitmq.com/tutorials/tutorial-five-python
    wild = {"*": r"\.[^.]*", "#": r"(?:\.[^.]*)*"}
    return re.compile("".join(wild.get(word, rf"\.{re.escape(word)}") for word in pattern.split(".")))


def matches(pattern: str, key: str) -> bool:
    """Whether a topic exchange takes `key` for a binding with `pattern`."""
    return _pattern(pattern).fullmatch(f".{key}") is not None


@pytest.mark.parametrize(
    ("pattern", "key", "taken"),
    [
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "ab", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("#.a.#", "x.a.b", True),
        ("*.1.#", "0.1", True),
        ("*.1.#", "1.0", False),
        ("#", "", True),
    ],
)
def test_the_small_rabbitmq_below_matches_as_the_real_one(pattern: str, key: str, taken: bool) -> None:
    assert matches(pattern, key) is taken


class Broker:
    """Where a message goes, by the definitions alone."""

    def __init__(self, declared: dict[str, Any]) -> None:
        self.exchanges = named(declared["exchanges"])
        self.queues = named(declared["queues"])
        self.by_source: dict[str, list[Binding]] = {name: [] for name in self.exchanges}
        for each in bindings(declared):
            self.by_source[each[0]].append(each)

    def route(self, exchange: str, key: str) -> set[str]:
        """The queues that a message to `exchange` reaches, at once."""
        reached = set(self._follow(exchange, key))
        alternate = self.exchanges[exchange]["arguments"].get("alternate-exchange")
        return reached if reached or alternate is None else self.route(alternate, key)

    def _follow(self, exchange: str, key: str) -> Iterator[str]:
        kind = self.exchanges[exchange]["type"]
        for _, destination_type, destination, pattern in self.by_source[exchange]:
            taken = {"topic": matches(pattern, key), "direct": pattern == key, "fanout": True}[kind]
            if taken and destination_type == "queue":
                yield destination
            elif taken:
                yield from self.route(destination, key)

    def deliver(self, exchange: str, key: str) -> tuple[int, set[str]]:
        """The milliseconds that a message waits, and the queues that have it after that."""
        waited = 0
        while True:
            reached = self.route(exchange, key)
            if len(reached) != 1:
                return waited, reached
            arguments = self.queues[next(iter(reached))]["arguments"]
            if "x-message-ttl" not in arguments:
                return waited, reached
            waited += arguments["x-message-ttl"]
            exchange = arguments["x-dead-letter-exchange"]
            key = arguments.get("x-dead-letter-routing-key", key)


# --- Whole and consistent ---------------------------------------------------------------------------------------------


def test_everything_that_is_referred_to_is_there(declared: dict[str, Any]) -> None:
    # Given every name that one thing uses of another
    exchanges, queues, users = named(declared["exchanges"]), named(declared["queues"]), named(declared["users"])
    # Then each is there
    for source, kind, destination, _ in bindings(declared):
        assert source in exchanges
        assert destination in (queues if kind == "queue" else exchanges)
    for exchange in exchanges.values():
        assert exchange["arguments"].get("alternate-exchange", "tasks") in exchanges
    for queue in queues.values():
        assert queue["arguments"].get("x-dead-letter-exchange", "tasks") in exchanges
    for permission in [*declared["permissions"], *declared["topic_permissions"]]:
        assert permission["user"] in users and permission.get("exchange", "tasks") in exchanges
    for kind in ("queues", "exchanges", "bindings", "permissions", "topic_permissions"):
        assert {each["vhost"] for each in declared[kind]} == {each["name"] for each in declared["vhosts"]}


@pytest.mark.parametrize("kind", ["exchanges", "queues", "users", "bindings", "permissions", "topic_permissions"])
def test_nothing_is_there_twice(declared: dict[str, Any], kind: str) -> None:
    items = [json.dumps(item, sort_keys=True) for item in declared[kind]]
    assert len(set(items)) == len(items)
    if "name" in declared[kind][0]:
        assert len(named(declared[kind])) == len(items)


def test_every_queue_and_exchange_outlives_a_restart(declared: dict[str, Any]) -> None:
    for each in [*declared["queues"], *declared["exchanges"]]:
        assert each["durable"] and not each["auto_delete"]
    # A classic queue is lost with its node.
    assert {queue["arguments"]["x-queue-type"] for queue in declared["queues"]} == {"quorum"}


def test_every_queue_can_be_reached(declared: dict[str, Any]) -> None:
    bound = {destination for _, kind, destination, _ in bindings(declared) if kind == "queue"}
    assert bound == named(declared["queues"]).keys()


def test_every_service_has_its_queue_and_its_dead_letters(declared: dict[str, Any]) -> None:
    queues = named(declared["queues"])
    for spec in MORE:
        assert queues[spec.name]["arguments"] == queue_arguments(spec.name)
        # To look at a message and put it back counts as a delivery: none must be the last.
        assert queues[f"{spec.name}.dead"]["arguments"] == {"x-queue-type": "quorum", "x-delivery-limit": -1}
    assert queues["unrouted"]["arguments"] == {"x-queue-type": "quorum", "x-delivery-limit": -1}


def test_a_rejected_message_becomes_the_dead_letter_of_its_queue(declared: dict[str, Any]) -> None:
    broker = Broker(declared)
    for spec in MORE:
        arguments = broker.queues[spec.name]["arguments"]
        reached = broker.route(arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"])
        assert reached == {f"{spec.name}.dead"}


def test_a_message_that_nobody_wants_is_kept(declared: dict[str, Any]) -> None:
    # Given keys that lead to no service, at once and after a delay
    broker = Broker(declared)
    for key in ("nobody.paint", "reporters.x", "x.reporter.y", "", "mai"):
        # Then their messages are kept aside
        assert broker.route("tasks", key) == {"unrouted"}
        assert broker.deliver("celery_delayed_27", calculate_routing_key(5, key or "x")) == (5000, {"unrouted"})


# --- Delays, as kombu has them ----------------------------------------------------------------------------------------


class RecordingChannel(memory.Channel):
    """Takes what kombu declares, and keeps it in the form of RabbitMQ's definitions."""

    declared: dict[str, list[dict[str, Any]]]

    def exchange_declare(self, exchange: str, type: str, durable: bool, auto_delete: bool, **rest: Any) -> None:
        arguments = rest.get("arguments") or {}
        self._keep("exchanges", name=exchange, type=type, durable=durable, auto_delete=auto_delete, arguments=arguments)

    def queue_declare(self, queue: str, durable: bool, auto_delete: bool, arguments: Any, **rest: Any) -> Any:
        self._keep("queues", name=queue, durable=durable, auto_delete=auto_delete, arguments=arguments)
        return queue, 0, 0

    def queue_bind(self, queue: str, exchange: str, routing_key: str, arguments: Any = None, **rest: Any) -> None:
        self._bind("queue", queue, exchange, routing_key, arguments)

    def exchange_bind(
        self, destination: str, source: str, routing_key: str, arguments: Any = None, **rest: Any
    ) -> None:
        self._bind("exchange", destination, source, routing_key, arguments)

    def _bind(self, kind: str, destination: str, source: str, routing_key: str, arguments: Any) -> None:
        self._keep(
            "bindings",
            source=source,
            destination=destination,
            destination_type=kind,
            routing_key=routing_key,
            arguments=arguments or {},
        )

    def _keep(self, kind: str, **item: Any) -> None:
        self.declared.setdefault(kind, []).append({**item, "vhost": "/"})


@pytest.fixture
def of_kombu() -> dict[str, list[dict[str, Any]]]:
    """What kombu itself declares for native delayed delivery."""
    connection = Connection("memory://")
    declared: dict[str, list[dict[str, Any]]] = {}

    class Transport(memory.Transport):
        class Channel(RecordingChannel):
            pass

    Transport.Channel.declared = declared
    connection.transport_cls = Transport
    declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    return declared


def as_set(items: Iterable[dict[str, Any]]) -> set[str]:
    return {json.dumps(item, sort_keys=True) for item in items}


def test_the_delay_exchanges_are_kombus(declared: dict[str, Any], of_kombu: dict[str, Any]) -> None:
    # Given what kombu declares: 28 levels and the exchange that delivers
    assert len(of_kombu["exchanges"]) == 29
    # Then ours are the same
    ours = [
        {key: value for key, value in exchange.items() if key != "internal"}
        for exchange in declared["exchanges"]
        if exchange["name"].startswith("celery_delayed_")
    ]
    for exchange in ours:
        if exchange["name"] == "celery_delayed_delivery":
            # but one: what no service takes when its delay is over is kept, where kombu would drop it.
            assert exchange["arguments"] == {"alternate-exchange": "tasks.unrouted"}
            exchange["arguments"] = {}
    assert as_set(ours) == as_set(of_kombu["exchanges"])


def test_the_delay_queues_are_kombus(declared: dict[str, Any], of_kombu: dict[str, Any]) -> None:
    # A queue that is declared with other arguments answers PRECONDITION_FAILED.
    assert len(of_kombu["queues"]) == 28
    ours = [queue for queue in declared["queues"] if queue["name"].startswith("celery_delayed_")]
    assert as_set(ours) == as_set(of_kombu["queues"])


def test_the_delay_bindings_are_kombus(declared: dict[str, Any], of_kombu: dict[str, Any]) -> None:
    # A set bit waits, a clear one goes on: 28 of each.
    assert len(of_kombu["bindings"]) == 56
    names = {exchange["name"] for exchange in of_kombu["exchanges"]}
    own = {spec.name for spec in MORE}
    ours = [each for each in declared["bindings"] if each["source"] in names and each["destination"] not in own]
    assert as_set(ours) == as_set(of_kombu["bindings"])
    # The others are ours: from the exchange that delivers to each service's queue.
    others = [each for each in declared["bindings"] if each["source"] in names and each["destination"] in own]
    assert {(each["source"], each["destination"]) for each in others} == {("celery_delayed_delivery", n) for n in own}
    assert len(others) == 2 * len(own)


@pytest.mark.parametrize("countdown", [1, 2, 3, 59, 3600, 2**20 + 1, 2**27, 2**28 - 1])
def test_a_delayed_task_waits_just_as_long(declared: dict[str, Any], countdown: int) -> None:
    # Given a delay, as kombu writes it before a task's key
    key = calculate_routing_key(countdown, "printer.send")
    # When the message is handed in at the first exchange
    waited, reached = Broker(declared).deliver("celery_delayed_27", key)
    # Then it waits so many seconds, and reaches its service
    assert (waited, reached) == (countdown * 1000, {"printer"})


@given(
    st.sets(service_names, min_size=1, max_size=4),
    st.integers(1, 2**28 - 1),
    st.lists(words, min_size=0, max_size=4),
    st.data(),
)
def test_a_delayed_task_reaches_its_service_and_no_other(
    names: set[str], countdown: int, rest: list[str], data: st.DataObject
) -> None:
    # Given any services, and a task of one of them whose name may contain the others' names
    broker = Broker(definitions(replace(SERVICES[0], name=name, schedules=()) for name in sorted(names)))
    owner = data.draw(st.sampled_from(sorted(names)))
    inside = data.draw(st.lists(st.sampled_from([*sorted(names), "all", "0", "1"]), max_size=3))
    key = ".".join([owner, *inside, *rest])
    # Then it reaches its service alone, at once and after any delay
    assert broker.route("tasks", key) == {owner}
    assert broker.route("celery_delayed_delivery", calculate_routing_key(countdown, key)) == {owner}
    # And a task for everyone reaches all
    for everyone in ("all.ping", f"all.{owner}"):
        assert broker.route("tasks", everyone) == names
        assert broker.route("celery_delayed_delivery", calculate_routing_key(countdown, everyone)) == names


def test_a_retry_that_carries_its_last_delay_is_not_lost(declared: dict[str, Any]) -> None:
    # kombu drops the last delay from a key before it writes the next.
    once = calculate_routing_key(5, "printer.send")
    assert Broker(declared).deliver("celery_delayed_27", calculate_routing_key(7, once)) == (7000, {"printer"})


# --- Passwords --------------------------------------------------------------------------------------------------------


def test_a_password_is_hashed_as_rabbitmqs_manual_says() -> None:
    # The example of https://www.rabbitmq.com/docs/passwords#computing-password-hash
    hashed = password_hash("test12", bytes.fromhex("908DC60A"))
    assert hashed == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_each_hash_has_a_salt_of_its_own() -> None:
    one, other = (base64.b64decode(password_hash("test12")) for _ in range(2))
    assert one[:4] != other[:4] and len(one) == len(other) == 4 + 32
    assert one[4:] == hashlib.sha256(one[:4] + b"test12").digest()


def test_hashes_go_to_their_users() -> None:
    users = named(definitions(MORE, {"reporter": "R", "admin": "A"})["users"])
    assert (users["reporter"]["password_hash"], users["admin"]["password_hash"]) == ("R", "A")
    assert {user["hashing_algorithm"] for user in users.values()} == {"rabbit_password_hashing_sha256"}
    # And who has none cannot log in: https://www.rabbitmq.com/docs/passwords#passwordless-users
    assert {user["password_hash"] for name, user in users.items() if name not in ("reporter", "admin")} == {""}


def test_the_committed_file_holds_no_password() -> None:
    users = json.loads(COMMITTED.read_text())["users"]
    assert users and {user["password_hash"] for user in users} == {""}
    assert not any("password" in user for user in users)


def test_there_is_no_guest(declared: dict[str, Any]) -> None:
    assert "guest" not in named(declared["users"])


def test_the_file_is_the_same_each_time() -> None:
    assert render() == render() == dump(definitions())
    assert render().endswith("}\n") and json.loads(render()) == definitions()
