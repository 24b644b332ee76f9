"""Who may do what on the broker, written out by hand."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.native_delayed_delivery import calculate_routing_key

from shared.render.definitions import definitions
from shared.render.permissions import DELAY_EXCHANGE, User, routing_keys, users
from shared.spec import Schedule, ServiceSpec
from shared.topology import SERVICES, TASKS_EXCHANGE

#: Two services: one calls the other, and is called by the clock.
PAINTER = ServiceSpec("painter", "paints", calls=("mailer",), schedules=(Schedule("painter.paint", "0 0 * * *"),))
MAILER = ServiceSpec("mailer", "mails")
SERVICES_HERE = (PAINTER, MAILER)
USERS = {user.name: user for user in users(SERVICES_HERE)}

#: RabbitMQ asks for this name when somebody publishes to the exchange without a name, which reaches every queue:
#: https://www.rabbitmq.com/docs/access-control#authorisation
DEFAULT_EXCHANGE = "amq.default"

#: What there is, and what comes and goes: queues for control, answers and events.
NAMES = {
    *(exchange["name"] for exchange in definitions(SERVICES_HERE)["exchanges"]),
    *(queue["name"] for queue in definitions(SERVICES_HERE)["queues"]),
    "painter@host.celery.pidbox",
    "mailer@host.celery.pidbox",
    "5f3a.reply.celery.pidbox",
    "celeryev.5f3a",
    DEFAULT_EXCHANGE,
    "amq.topic",
    "amq.direct",
    "amq.fanout",
    "something_new",
    "painter2",
    "a.painter",
    "tasks2",
    "",
}

#: For each user: what it may configure, write and read, of all of NAMES.
TABLE: dict[str, tuple[set[str], set[str], set[str]]] = {
    "painter": (
        # Its own control queue is all that it declares.
        {"painter@host.celery.pidbox"},
        # It publishes tasks, now and later, and its dead letters, tells what it does, answers, and binds its control
        # queue.
        {"tasks", "celery_delayed_27", "tasks.dead", "celeryev", "reply.celery.pidbox", "painter@host.celery.pidbox"},
        # It takes its own tasks, and commands: not by the control exchange, which it can only bind from.
        {"painter", "celery.pidbox", "painter@host.celery.pidbox"},
    ),
    "mailer": (
        {"mailer@host.celery.pidbox"},
        {"tasks", "celery_delayed_27", "tasks.dead", "celeryev", "reply.celery.pidbox", "mailer@host.celery.pidbox"},
        {"mailer", "celery.pidbox", "mailer@host.celery.pidbox"},
    ),
    # It publishes at once, and tells nobody: a message beside the task's could fail when the task is on its way.
    "gateway": (set(), {"tasks"}, set()),
    "beat": (set(), {"tasks", "celeryev"}, set()),
    "operator": (
        {"5f3a.reply.celery.pidbox"},
        {"tasks", "celery_delayed_27", "celery.pidbox", "celeryev", "5f3a.reply.celery.pidbox"},
        {
            *("painter", "mailer", "painter.dead", "mailer.dead", "unrouted"),
            *("reply.celery.pidbox", "5f3a.reply.celery.pidbox"),
        },
    ),
    "flower": (
        # Celery's own receiver declares the exchange that it listens at.
        {"celeryev", "celeryev.5f3a", "5f3a.reply.celery.pidbox"},
        # It commands every worker, and publishes no task.
        {"celery.pidbox", "celeryev.5f3a", "5f3a.reply.celery.pidbox"},
        {"celeryev", "celeryev.5f3a", "reply.celery.pidbox", "5f3a.reply.celery.pidbox"},
    ),
    "monitor": (set(), set(), set()),
    "exporter": (set(), set(), set()),
    "admin": (NAMES, NAMES, NAMES),
}

#: For each user: the keys that it may publish with to the tasks exchange, of all of KEYS; None where it need not be
#: asked, because it may not write there at all.
KEYS = {
    *("painter.paint", "painter.paint.v2", "painter.celery.starmap", "mailer.send", "mailer.painter.x"),
    *("all.ping", "other.do", "celery.chord_unlock", "painter", "painters.paint", "x.painter.paint", "", "#"),
}
OF_PAINTER = {"painter.paint", "painter.paint.v2", "painter.celery.starmap"}
OF_MAILER = {"mailer.send", "mailer.painter.x"}
KEYS_TABLE: dict[str, set[str]] = {
    "painter": OF_PAINTER | OF_MAILER,
    "mailer": OF_MAILER,
    # And the reporter, which is not here.
    "gateway": {"mailer.send", "mailer.painter.x"},
    "beat": OF_PAINTER | OF_MAILER,
    "operator": KEYS,
    "flower": set(),
    "monitor": set(),
    "exporter": set(),
    "admin": KEYS,
}


#: The exchanges at which routing keys are checked.
TOPICS = ("tasks", "celery_delayed_27", "tasks.dead")


def allowed(pattern: str, names: set[str]) -> set[str]:
    """The names that RabbitMQ lets through; it takes `^$` for nothing at all."""
    return set() if pattern == "^$" else {name for name in names if re.search(pattern, name)}


def keys(user: User, exchange: str, of: set[str]) -> set[str]:
    pattern = routing_keys(user, exchange)
    return of if pattern is None else allowed(pattern, of)


# --- Exchanges and queues ---------------------------------------------------------------------------------------------


def test_the_table_below_names_every_user() -> None:
    assert USERS.keys() == TABLE.keys() == KEYS_TABLE.keys()


@pytest.mark.parametrize("name", TABLE)
def test_a_user_may_do_what_its_work_needs_and_no_more(name: str) -> None:
    user = USERS[name]
    configure, write, read = TABLE[name]
    assert allowed(user.configure, NAMES) == configure
    assert allowed(user.write, NAMES) == write
    assert allowed(user.read, NAMES) == read


@pytest.mark.parametrize("name", sorted(TABLE.keys() - {"admin"}))
def test_nobody_but_a_person_may_publish_to_the_default_exchange(name: str) -> None:
    # Whoever may, reaches every queue around all routing keys.
    for exchange in (DEFAULT_EXCHANGE, ""):
        assert not allowed(USERS[name].write, {exchange})


@pytest.mark.parametrize("name", sorted(TABLE.keys() - {"admin", "operator", "flower"}))
def test_only_operator_and_flower_may_command_workers(name: str) -> None:
    assert not allowed(USERS[name].write, {"celery.pidbox"})


@pytest.mark.parametrize("name", sorted(TABLE.keys() - {"admin"}))
def test_nobody_but_a_person_may_remove_what_the_broker_loaded(name: str) -> None:
    # Given all that the definitions declare; Flower may declare, and so remove, only the events' exchange
    there = {each["name"] for kind in ("exchanges", "queues") for each in definitions(SERVICES_HERE)[kind]}
    assert allowed(USERS[name].configure, there) <= ({"celeryev"} if name == "flower" else set())


@given(st.sampled_from(["painter", "mailer"]), st.sampled_from(sorted(NAMES)), st.text("abz.@_-", max_size=8))
def test_a_worker_never_reads_what_is_not_its_own(name: str, other: str, more: str) -> None:
    # Given any name that begins, or ends, like one that there is
    for asked in (other, f"{other}{more}", f"{more}{other}"):
        # Then it is the worker's own, or the worker may not consume it
        if allowed(USERS[name].read, {asked}):
            assert asked in (name, "celery.pidbox") or asked.startswith(f"{name}@")


def test_a_name_means_itself_in_a_pattern() -> None:
    # A dot in a name is a dot.
    assert not allowed(USERS["operator"].read, {"painterXdead", "replyXceleryXpidbox"})
    assert not allowed(USERS["flower"].write, {"celeryXpidbox"})


def test_a_user_is_there_for_each_service_and_has_its_name() -> None:
    assert {spec.name for spec in SERVICES} <= {user.name for user in users()}
    assert len({user.name for user in users()}) == len(users())


def test_tags_open_the_management_page_to_people_and_monitoring_only() -> None:
    assert {name: user.tags for name, user in USERS.items() if user.tags} == {
        "operator": ("monitoring",),
        "monitor": ("monitoring",),
        "exporter": ("monitoring",),
        "admin": ("administrator",),
    }


# --- Routing keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEYS_TABLE)
def test_a_user_may_publish_to_those_whom_it_calls(name: str) -> None:
    assert keys(USERS[name], TASKS_EXCHANGE, KEYS) == KEYS_TABLE[name]


@pytest.mark.parametrize("name", KEYS_TABLE)
@pytest.mark.parametrize("countdown", [1, 5, 2**28 - 1])
def test_the_same_holds_for_what_it_publishes_for_later(name: str, countdown: int) -> None:
    # Given each key with a delay before it, as kombu writes it
    delayed = {calculate_routing_key(countdown, key): key for key in KEYS if key}
    # Then the same of them are allowed
    got = {delayed[key] for key in keys(USERS[name], DELAY_EXCHANGE, set(delayed))}
    assert got == KEYS_TABLE[name] - {""}


@pytest.mark.parametrize("name", ["painter", "mailer", "beat"])
def test_a_delay_opens_no_way_around(name: str) -> None:
    # Given keys with a part of a delay, with two delays, and with none
    bits = "0." * 28
    around = {f"{bits}{bits}other.do", f"{'0.' * 27}other.do", f"{'2.' * 28}painter.paint", "painter.paint", "other.do"}
    assert not keys(USERS[name], DELAY_EXCHANGE, around)


@pytest.mark.parametrize("name", sorted(TABLE.keys() - {"admin", "operator"}))
def test_a_service_writes_its_own_dead_letters_and_nobody_elses(name: str) -> None:
    # Given the keys of every service's dead letters, and some like them; a worker that may write to the exchange
    among = {"painter", "mailer", "painters", "painter.dead", "mailer.painter", "#", "*", ""}
    # Then its own name is the one that it may use
    assert keys(USERS[name], "tasks.dead", among) == ({name} if name in ("painter", "mailer") else set())


def test_each_topic_exchange_of_tasks_has_its_keys_in_the_definitions() -> None:
    # Given the definitions
    written = {
        (each["user"], each["exchange"]): (each["write"], each["read"])
        for each in definitions(SERVICES_HERE)["topic_permissions"]
    }
    # Then each is bounded for everyone but those who may publish everything
    bounded = TABLE.keys() - {"operator", "admin"}
    assert written.keys() == {(name, exchange) for name in bounded for exchange in TOPICS}
    for (name, exchange), (write, read) in written.items():
        assert (write, read) == (routing_keys(USERS[name], exchange), "^$")


def test_the_permissions_stand_in_the_definitions() -> None:
    written = {
        each["user"]: (each["configure"], each["write"], each["read"])
        for each in definitions(SERVICES_HERE)["permissions"]
    }
    assert written == {name: (user.configure, user.write, user.read) for name, user in USERS.items()}


def test_beat_publishes_to_every_service_and_to_nobody_else() -> None:
    # An operator may schedule a task of a service that has none in the topology.
    resting = replace(PAINTER, schedules=())
    beat = next(user for user in users((resting, MAILER)) if user.name == "beat")
    assert keys(beat, TASKS_EXCHANGE, KEYS) == OF_PAINTER | OF_MAILER
