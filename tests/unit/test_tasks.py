"""The base of every task: retries, and the bond between a declaration and its implementation."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from celery.exceptions import Retry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.app import App
from shared.errors import ContractError, Final, InvalidArguments, Retryable
from shared.signatures import Declaration
from shared.tasks import Task, implements


class Paint(BaseModel):
    colour: str
    litres: int = 1


def declared(name: str = "reporter.paint", keeps_result: bool = False) -> Declaration[..., Any]:
    """A declaration that nobody else knows of."""

    def paint(paints: list[Paint], when: date = date(2026, 1, 8)) -> Paint:
        raise NotImplementedError

    return Declaration(name, paint, keeps_result)


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    """The worker of a service, embedded."""
    return make_app("reporter")


@pytest.fixture
def failing(app: App) -> Iterator[Any]:
    """A task that raises what it finds in `error`, and retries by itself what is retryable."""
    declaration = declared()

    def paint(paints: Any, when: Any) -> Any:
        raise task.error

    implements(declaration, app, autoretry_for=(Retryable,))(paint)
    task = app.tasks["reporter.paint"]
    task.error = Retryable("later")
    yield task


def attempt(task: Any, *args: Any, retries: int = 0, routing_key: str = "reporter.paint", **kwargs: Any) -> Any:
    """Run the task as a worker would that has taken its message."""
    task.push_request(
        id="the-id",
        args=args,
        kwargs=kwargs,
        retries=retries,
        called_directly=False,
        is_eager=False,
        delivery_info={"exchange": "tasks", "routing_key": routing_key, "priority": 0},
    )
    try:
        return task.run(*args, **kwargs)
    finally:
        task.pop_request()


def published(app: App) -> Any:
    """The next message in the service's queue."""
    with app.connection_for_read() as connection:
        return connection.default_channel.basic_get("reporter", no_ack=True)


# --- Retries ----------------------------------------------------------------------------------------------------------


def test_a_retry_waits_as_long_as_the_other_side_said(app: App, failing: Any) -> None:
    # Given that GitHub says when it will answer again
    failing.error = Retryable("rate limited", retry_after=1234)
    # When a task meets it
    with pytest.raises(Retry) as caught:
        attempt(failing, [])
    # Then the next attempt waits so long
    assert caught.value.when == 1234 and caught.value.exc is failing.error
    headers = published(app).headers
    wait = (datetime.fromisoformat(headers["eta"]) - datetime.now(UTC)).total_seconds()
    assert 1200 < wait <= 1234
    # And it is the same task, one attempt later
    assert (headers["id"], headers["retries"]) == ("the-id", 1)


def test_a_retry_never_comes_sooner_than_its_own_backoff(failing: Any) -> None:
    # Given a fixed backoff, longer than the other side asks for
    failing.error = Retryable("rate limited", retry_after=1)
    failing.push_request(id="the-id", args=([],), kwargs={}, called_directly=False, delivery_info={})
    try:
        with pytest.raises(Retry) as caught:
            failing.retry(exc=failing.error, countdown=50)
    finally:
        failing.pop_request()
    assert caught.value.when == 50


def test_a_part_of_a_second_is_waited_for_as_a_whole_one(app: App, failing: Any) -> None:
    failing.error = Retryable("rate limited", retry_after=300.25)
    with pytest.raises(Retry):
        attempt(failing, [])
    wait = (datetime.fromisoformat(published(app).headers["eta"]) - datetime.now(UTC)).total_seconds()
    assert 300.25 < wait <= 301


def test_an_error_that_names_no_time_backs_off(failing: Any) -> None:
    # Given an error that does not say when, again and again
    waits: dict[int, list[float]] = {}
    for retries in range(5):
        for _ in range(20):
            with pytest.raises(Retry) as caught:
                attempt(failing, [], retries=retries)
            waits.setdefault(retries, []).append(caught.value.when)
    # Then the wait grows by doubling, stays in its bound, and is spread
    assert all(0 <= wait <= min(2**retries, 300) for retries, each in waits.items() for wait in each)
    assert len(set(waits[4])) > 1
    assert max(waits[4]) > 5


def test_attempts_are_bounded(app: App, failing: Any) -> None:
    # Given a task that had all its attempts
    assert failing.max_retries == 5
    # When it fails once more, then with its own error, and nothing is published
    with pytest.raises(Retryable, match="later"):
        attempt(failing, [], retries=5)
    assert published(app) is None


@pytest.mark.parametrize("error", [Final("refused"), ValueError("a bug"), InvalidArguments("no")])
def test_what_is_not_retryable_is_not_retried(app: App, failing: Any, error: Exception) -> None:
    failing.error = error
    with pytest.raises(type(error)):
        attempt(failing, [])
    assert published(app) is None


def test_arguments_that_are_refused_are_not_retried(app: App, failing: Any) -> None:
    # Else a message of an older publisher would go round for ever.
    with pytest.raises(InvalidArguments, match=r"reporter\.paint: paints"):
        attempt(failing, "red")
    assert published(app) is None


@pytest.mark.parametrize(
    "arrived_by",
    ["reporter.paint", ".".join("0" * 27 + "1") + ".reporter.paint", ".".join("1" * 28) + ".reporter.paint", "all.x"],
)
def test_each_attempt_is_routed_by_its_name(app: App, failing: Any, arrived_by: str) -> None:
    # Given a task that came by a key of another exchange: a delayed one has its delay before it
    # When it is retried
    with pytest.raises(Retry):
        attempt(failing, [], routing_key=arrived_by)
    # Then the message goes by the task's name, to this service
    message = published(app)
    assert message.delivery_info["exchange"] == "tasks"
    assert message.delivery_info["routing_key"] == "reporter.paint"


def test_a_task_for_everyone_is_retried_by_this_service_alone(app: App, make_app: Callable[..., App]) -> None:
    # Given a task that every service runs, and that fails here
    def paint(paints: Any, when: Any) -> Any:
        raise Retryable("later")

    implements(declared("all.paint"), app, autoretry_for=(Retryable,))(paint)
    # When it is retried
    with pytest.raises(Retry):
        attempt(app.tasks["all.paint"], [], routing_key="all.paint")
    # Then its key leads to no other service, and is one that this service may publish
    message = published(app)
    assert message.headers["task"] == "all.paint"
    assert message.delivery_info["routing_key"] == "reporter.all.paint"


def test_a_signature_of_the_next_attempt_has_no_key_of_the_last(failing: Any) -> None:
    failing.push_request(
        id="the-id", args=([],), kwargs={"when": "2026-01-08"}, delivery_info={"exchange": "x", "routing_key": "y.z"}
    )
    try:
        made = failing.signature_from_request()
    finally:
        failing.pop_request()
    assert not made.options.keys() & {"exchange", "routing_key"}
    assert (made.task, made.kwargs) == ("reporter.paint", {"when": "2026-01-08"})
    assert made.options["task_id"] == "the-id"


@given(st.none() | st.floats(0, 10**6), st.none() | st.floats(0, 300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_the_longer_wait_wins(monkeypatch: pytest.MonkeyPatch, after: float | None, backoff: float | None) -> None:
    # Given what the other side said, and what the backoff says
    asked: list[float | None] = []
    with monkeypatch.context() as patched:
        patched.setattr("celery.Task.retry", lambda self, *args, exc, countdown, **options: asked.append(countdown))
        Task().retry(exc=Retryable("later", retry_after=after), countdown=backoff)
    # Then the longer of them holds; nothing said is left to Celery
    said = [each for each in (after, backoff) if each is not None]
    assert asked == [max(said) if said else None]


# --- The bond ---------------------------------------------------------------------------------------------------------


def test_arguments_arrive_in_their_types_and_the_result_leaves_as_json(app: App) -> None:
    # Given an implementation that works with models
    got: list[Any] = []

    @implements(declared(), app)
    def paint(paints: list[Paint], when: date) -> Paint:
        got.extend([paints, when])
        return paints[0]

    # When it gets what JSON carries
    result = attempt(app.tasks["reporter.paint"], [{"colour": "red"}], when="2026-01-09")
    # Then it saw models, and gives what JSON carries
    assert got == [[Paint(colour="red")], date(2026, 1, 9)]
    assert result == {"colour": "red", "litres": 1} and json.loads(json.dumps(result)) == result


def test_defaults_are_the_declarations(app: App) -> None:
    @implements(declared(), app)
    def paint(paints: Any, when: Any = date(1999, 1, 1)) -> Any:
        return {"colour": when.isoformat()}

    assert attempt(app.tasks["reporter.paint"], [])["colour"] == "2026-01-08"


def test_a_bound_implementation_gets_its_task_first(app: App) -> None:
    @implements(declared(), app, bind=True)
    def paint(task: Any, paints: Any, when: Any) -> Any:
        return {"colour": task.request.id}

    assert attempt(app.tasks["reporter.paint"], [])["colour"] == "the-id"


@pytest.mark.parametrize(
    ("args", "kwargs", "argument"),
    [
        ((), {}, "paints"),
        (("red",), {}, "paints: Input should be a valid list"),
        (([{"litres": 1}],), {}, "paints.0.colour: Field required"),
        (([],), {"when": "soon"}, "when"),
        (([],), {"gloss": True}, "gloss"),
        (([], "2026-01-08", 5), {}, "too many"),
    ],
)
def test_wrong_arguments_are_a_clear_error_on_arrival(
    app: App, args: tuple[Any, ...], kwargs: dict[str, Any], argument: str
) -> None:
    @implements(declared(), app)
    def paint(paints: Any, when: Any) -> Any:
        raise AssertionError("must not run")

    with pytest.raises(InvalidArguments) as caught:
        attempt(app.tasks["reporter.paint"], *args, **kwargs)
    assert str(caught.value).startswith("reporter.paint: ") and argument in str(caught.value)


def test_a_wrong_result_is_an_error(app: App) -> None:
    @implements(declared(), app)
    def paint(paints: Any, when: Any) -> Any:
        return "red"

    with pytest.raises(ValueError, match="Paint"):
        attempt(app.tasks["reporter.paint"], [])


def test_an_implementation_with_other_parameters_is_refused_at_import(app: App) -> None:
    with pytest.raises(ContractError, match=r"reporter\.paint is declared with \(paints, when\)"):

        @implements(declared(), app)
        def paint(paints: Any, date: Any) -> Any: ...

    with pytest.raises(ContractError):

        @implements(declared(), app, bind=True)
        def unbound(paints: Any, when: Any) -> Any: ...

    assert "reporter.paint" not in app.tasks


@pytest.mark.parametrize("keeps_result", [True, False])
def test_a_result_is_kept_as_its_declaration_says(app: App, keeps_result: bool) -> None:
    @implements(declared(keeps_result=keeps_result), app)
    def paint(paints: Any, when: Any) -> Any: ...

    assert app.tasks["reporter.paint"].ignore_result is not keeps_result


def test_celerys_own_options_are_passed_on(app: App) -> None:
    @implements(declared(), app, max_retries=2, rate_limit="5/m")
    def paint(paints: Any, when: Any) -> Any: ...

    task = app.tasks["reporter.paint"]
    assert isinstance(task, Task) and (task.max_retries, task.rate_limit) == (2, "5/m")
    assert task.acks_late and task.reject_on_worker_lost and not task.acks_on_failure_or_timeout


def test_an_error_keeps_what_it_says_through_a_result_store() -> None:
    # A store rebuilds an exception from its `args`.
    error = Retryable("rate limited", 30.0)
    again = type(error)(*json.loads(json.dumps(error.args)))
    assert (str(again), again.retry_after) == ("rate limited", 30.0)


def test_a_task_belongs_to_its_own_app_alone(app: App, make_app: Callable[..., App]) -> None:
    @implements(declared(), app)
    def paint(paints: Any, when: Any) -> Any: ...

    assert "reporter.paint" in app.tasks and "reporter.paint" not in make_app().tasks
