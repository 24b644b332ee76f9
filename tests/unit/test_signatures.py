"""A task's signature: checked where it is called, and again where it arrives."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import Signature, chord, chunks, group
from kombu.utils.json import dumps, loads
from pydantic import BaseModel

from shared.errors import ContractError, Error, InvalidArguments
from shared.signatures import Declaration, declarations, signature
from shared.signatures import declaration as module
from shared.signatures import reporter as contract
from shared.signatures.reporter import Assignment, Page, Question, Repo
from shared.spec import EVERYONE
from shared.topology import SERVICES, TASKS_EXCHANGE

TODAY = datetime.now(UTC).date()
ASSIGNMENT = Assignment(question=Question(since=date(2026, 1, 1), ref_date=date(2026, 1, 8)), task_id="t", started=1.5)


class Paint(BaseModel):
    colour: str
    litres: int = 1


def paint(what: str, paints: list[Paint], when: date | None = None, coats: int = 2) -> Paint:
    """Paint it."""
    raise NotImplementedError


@pytest.fixture
def painting() -> Declaration[..., Any]:
    """A task that nobody else knows of."""
    return Declaration("painter.paint", paint, keeps_result=False)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Declaration[Any, Any]]]:
    """The declared tasks; what a test adds is gone after it."""
    declarations()
    known = dict(module._declared)
    monkeypatch.setattr(module, "_declared", known)
    yield known


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# --- Calling ----------------------------------------------------------------------------------------------------------


def test_calling_gives_a_celery_signature_that_knows_its_way() -> None:
    # When a declared task is called
    made = contract.produce_report(period="week", ref_date=date(2026, 1, 8))
    # Then the signature says all that a publisher needs
    assert isinstance(made, Signature)
    assert made.task == "reporter.produce_report"
    assert made.args == ()
    assert made.kwargs == {"period": "week", "ref_date": "2026-01-08"}
    assert made.options == {
        "exchange": TASKS_EXCHANGE,
        "exchange_type": "topic",
        "routing_key": "reporter.produce_report",
        "ignore_result": False,
    }


def test_a_task_whose_result_nobody_reads_says_so(painting: Declaration[..., Any]) -> None:
    assert painting("wall", []).options["ignore_result"] is True


def test_arguments_by_place_become_arguments_by_name() -> None:
    assert contract.fetch_repos(date(2026, 1, 1), 100, 3).kwargs == {"since": "2026-01-01", "per_page": 100, "page": 3}


def test_defaults_are_left_to_the_worker() -> None:
    # Its default may be newer than the publisher's.
    assert contract.produce_report().kwargs == {}


def test_arguments_are_plain_json(painting: Declaration[..., Any]) -> None:
    # Given models, dates and nested lists
    made = painting("wall", [Paint(colour="red")], when=date(2026, 1, 8))
    # Then the JSON of a strict encoder, without Celery's own types, brings back the same
    assert json.loads(json.dumps(made.kwargs)) == made.kwargs
    assert made.kwargs["paints"] == [{"colour": "red", "litres": 1}]
    # And so does the signature as a whole, as it travels in a chord
    assert loads(dumps(made)) == {**made, "args": []}


@pytest.mark.parametrize(
    ("kwargs", "argument"),
    [
        ({"period": "year"}, "period"),
        ({"period": "Week"}, "period"),
        ({"ref_date": "yesterday"}, "ref_date"),
        ({"ref_date": 0}, "ref_date"),
        ({"ref_date": "2026-02-30"}, "ref_date"),
        ({"ref_date": "08.01.2026"}, "ref_date"),
        ({"ref_date": TODAY + timedelta(days=1)}, "ref_date"),
        ({"group_by": "stars"}, "group_by"),
        ({"layout": "pie"}, "layout"),
        ({"per_language": "perhaps"}, "per_language"),
        ({"refresh": None}, "refresh"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_refused_argument_is_named(kwargs: dict[str, Any], argument: str) -> None:
    complaint = refusal(contract.produce_report, **kwargs)
    assert complaint.startswith("reporter.produce_report: ") and argument in complaint


@pytest.mark.parametrize(
    ("args", "argument"),
    [
        ((date(2026, 1, 1), 0, 1), "per_page"),
        ((date(2026, 1, 1), 101, 1), "per_page"),
        ((date(2026, 1, 1), 100, 0), "page"),
        ((date(2026, 1, 1), 100, 1001), "page"),
        ((date(2026, 1, 1), 100, 1.5), "page"),
        ((date(2026, 1, 1), 100, "many"), "page"),
        ((date(2026, 1, 1), 100, [1]), "page"),
        ((date(2026, 1, 1), 100), "page"),
        (("", 100, 1), "since"),
        ((TODAY + timedelta(days=1), 100, 1), "since"),
        ((date(2026, 1, 1), 100, 1, 5), "report_to"),
    ],
)
def test_a_refused_argument_is_named_when_given_by_place(args: tuple[Any, ...], argument: str) -> None:
    complaint = refusal(contract.fetch_repos, *args)
    assert complaint.startswith("reporter.fetch_repos: ") and argument in complaint


def test_the_edges_are_taken() -> None:
    for per_page, page in ((1, 1), (100, 1000)):
        contract.fetch_repos(TODAY, per_page, page)


def test_too_many_arguments_are_refused() -> None:
    assert "too many positional" in refusal(contract.fetch_repos, TODAY, 1, 1, None, 5)


def test_an_argument_given_twice_is_refused() -> None:
    assert "multiple values for argument 'since'" in refusal(contract.fetch_repos, TODAY, 1, 1, since=TODAY)


def test_a_refusal_says_what_was_given_and_what_is_wanted() -> None:
    assert "layout: Input should be 'grouped' or 'table' (got 'pie')" in refusal(contract.produce_report, layout="pie")
    assert "must not lie after today" in refusal(contract.produce_report, ref_date=TODAY + timedelta(days=1))


def test_a_refusal_names_every_wrong_argument_and_stays_short() -> None:
    complaint = refusal(contract.produce_report, layout="x" * 5000, group_by="y" * 5000)
    assert "layout: " in complaint and "group_by: " in complaint and len(complaint) < 500


def test_a_refusal_names_the_place_inside_a_value(painting: Declaration[..., Any]) -> None:
    assert "paints.1.colour: Field required" in refusal(painting, "wall", [{"colour": "red"}, {}])


def test_a_refusal_can_be_caught_as_ours_and_as_pythons() -> None:
    assert issubclass(InvalidArguments, Error) and issubclass(InvalidArguments, ValueError)


# --- Partial signatures and the canvas --------------------------------------------------------------------------------


def test_a_partial_signature_waits_for_what_ran_before() -> None:
    # Given the callback of a chord, which gets the pages first
    made = contract.build_report.s(assignment=ASSIGNMENT)
    # Then its own arguments are plain, and its way is known
    assert made.args == () and made.kwargs == {"assignment": ASSIGNMENT.model_dump(mode="json")}
    assert made.options["routing_key"] == "reporter.build_report"
    assert not made.immutable


def test_a_partial_signature_takes_arguments_by_place() -> None:
    assert contract.write_language.s("Rust").args == ("Rust",)


@pytest.mark.parametrize(
    ("kwargs", "argument"), [({"page": 0}, "page"), ({"per_page": "x"}, "per_page"), ({"pages": 1}, "pages")]
)
def test_a_partial_signature_refuses_a_wrong_argument(kwargs: dict[str, Any], argument: str) -> None:
    complaint = refusal(contract.fetch_repos.s, **kwargs)
    assert complaint.startswith("reporter.fetch_repos: ") and argument in complaint


def test_a_partial_signature_refuses_too_many_arguments() -> None:
    assert "too many positional" in refusal(contract.fetch_repos.s, 1, 2, 3, 4, 5)


def test_an_immutable_signature_takes_nothing_from_what_ran_before() -> None:
    made = contract.fetch_repos.si(date(2026, 1, 1), 100, 1)
    assert made.immutable and made.clone(args=("more",)).args == ()
    with pytest.raises(InvalidArguments, match="page"):
        contract.fetch_repos.si(date(2026, 1, 1), 100, 0)


def pages() -> list[Signature]:
    return [contract.fetch_repos(date(2026, 1, 1), 100, number) for number in (1, 2)]


def test_signatures_chain() -> None:
    made = pages()[0] | contract.build_report.s(assignment=ASSIGNMENT)
    assert made.task == "celery.chain"
    assert [task.options["routing_key"] for task in made.tasks] == ["reporter.fetch_repos", "reporter.build_report"]


def test_signatures_group_and_a_group_with_a_callback_is_a_chord() -> None:
    together = group(pages())
    assert [task.kwargs["page"] for task in together.tasks] == [1, 2]
    joined = together | contract.build_report.s(assignment=ASSIGNMENT)
    assert isinstance(joined, chord) and joined.body.options["routing_key"] == "reporter.build_report"


def test_a_chord_survives_its_way_through_json() -> None:
    # Given a chord
    made = chord(pages(), contract.build_report.s(assignment=ASSIGNMENT))
    # When it travels inside another message
    arrived = Signature.from_dict(json.loads(dumps(made)))
    # Then each task still knows its way and its arguments
    assert isinstance(arrived, chord)
    assert [task["options"]["routing_key"] for task in arrived.tasks] == ["reporter.fetch_repos"] * 2
    assert arrived.body["kwargs"]["assignment"] == ASSIGNMENT.model_dump(mode="json")


def test_signatures_split_into_chunks() -> None:
    # Given one task and many arguments
    made = chunks(contract.fetch_repos.s(), [("2026-01-01", 100, page) for page in range(1, 6)], 2)
    # When they are cut into chunks of two
    parts = made.group().tasks
    # Then there are three, each of the declared task
    assert [len(part.kwargs["it"]) for part in parts] == [2, 2, 1]
    assert {part.kwargs["task"]["task"] for part in parts} == {"reporter.fetch_repos"}


def test_delay_publishes_what_calling_makes(make_app: Any) -> None:
    # Given a connected app
    app = make_app()
    # When a task is delayed
    result = contract.produce_report.delay(period="day")
    # Then it is in its queue
    assert result.app is app
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("reporter")
    assert message.headers["id"] == result.id and json.loads(message.body)[1] == {"period": "day"}
    with pytest.raises(InvalidArguments):
        contract.produce_report.delay(period="year")  # type: ignore[arg-type]  # the point of the test


# --- On arrival -------------------------------------------------------------------------------------------------------


def test_arguments_arrive_in_their_declared_types() -> None:
    # Given what a publisher sent, as JSON
    sent = json.loads(dumps(contract.build_report([Page(number=1, repos=[])], ASSIGNMENT).kwargs))
    # When it arrives
    arrived = contract.build_report.check_arguments((), sent)
    # Then the function gets models again
    assert arrived == {"pages": [Page(number=1, repos=[])], "assignment": ASSIGNMENT}
    assert isinstance(arrived["assignment"], Assignment)


def test_results_of_earlier_tasks_arrive_by_place(painting: Declaration[..., Any]) -> None:
    arrived = painting.check_arguments(("wall", [{"colour": "red"}]), {"coats": 3})
    assert arrived == {"what": "wall", "paints": [Paint(colour="red")], "when": None, "coats": 3}


def test_defaults_are_filled_in_on_arrival(painting: Declaration[..., Any]) -> None:
    assert painting.check_arguments(("wall", []), {})["coats"] == 2


def test_a_newer_publishers_fields_are_ignored() -> None:
    repo = {"full_name": "a/b", "url": "https://github.com/a/b", "stars": 1, "watchers": 7}
    arrived = contract.build_report.check_arguments(([{"number": 1, "repos": [repo], "of": 5}], ASSIGNMENT), {})
    assert arrived["pages"][0].repos == [Repo(full_name="a/b", url="https://github.com/a/b", stars=1)]


@pytest.mark.parametrize(
    ("args", "kwargs", "argument"),
    [
        ((), {}, "what"),
        (("wall", "red"), {}, "paints"),
        (("wall", []), {"coats": "x"}, "coats"),
        (("wall", []), {"gloss": True}, "gloss"),
        (("wall", [], None, 2, 5), {}, "too many"),
        (("wall", []), {"what": "door"}, "what"),
    ],
)
def test_arguments_of_another_idea_are_refused_on_arrival(
    painting: Declaration[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argument: str
) -> None:
    complaint = refusal(painting.check_arguments, args, kwargs)
    assert complaint.startswith("painter.paint: ") and argument in complaint


def test_a_result_leaves_as_plain_json(painting: Declaration[..., Any]) -> None:
    assert painting.dump_result(Paint(colour="red")) == {"colour": "red", "litres": 1}
    assert painting.dump_result({"colour": "red"}) == {"colour": "red", "litres": 1}


# --- Declaring --------------------------------------------------------------------------------------------------------


def test_an_implementation_with_the_declared_parameters_is_taken(painting: Declaration[..., Any]) -> None:
    painting.check_implementation(lambda what, paints, when, coats: None, bound=False)
    painting.check_implementation(lambda task, what, paints, when, coats: None, bound=True)


@pytest.mark.parametrize(
    ("function", "bound"),
    [
        (lambda what, paints, when: None, False),
        (lambda paints, what, when, coats: None, False),
        (lambda what, paints, when, layers: None, False),
        (lambda what, paints, when, coats, gloss: None, False),
        (lambda task, what, paints, when, coats: None, False),
        (lambda what, paints, when, coats: None, True),
        (lambda *args, **kwargs: None, False),
    ],
)
def test_an_implementation_with_other_parameters_is_refused(
    painting: Declaration[..., Any], function: Any, bound: bool
) -> None:
    with pytest.raises(ContractError, match=r"painter\.paint is declared with \(what, paints, when, coats\): make"):
        painting.check_implementation(function, bound=bound)


def test_a_name_is_declared_once(registry: dict[str, Any]) -> None:
    # Given a declared task
    first = signature("painter.paint")(paint)
    # When another is declared under its name, then it is refused, and the first stays
    with pytest.raises(ContractError, match=r"painter\.paint is declared twice"):
        signature("painter.paint")(paint)
    assert registry["painter.paint"] is first


def test_declarations_are_found_by_their_service(registry: dict[str, Any]) -> None:
    # Given tasks of two services, one name a beginning of the other
    signature("paint.mix", keeps_result=True)(paint)
    signature("painter.paint")(paint)
    # Then each service has its own
    assert list(declarations("painter")) == ["painter.paint"]
    assert list(declarations("paint")) == ["paint.mix"]
    assert {"paint.mix", "painter.paint", "reporter.produce_report"} <= declarations().keys()
    assert declarations("nobody") == {}


def test_every_declared_task_belongs_to_a_service_and_says_what_it_does() -> None:
    for name, task in declarations().items():
        assert task.service in {EVERYONE, *(spec.name for spec in SERVICES)}, name
        assert task.__doc__ and task.__doc__.strip(), name


def test_a_declaration_shows_what_it_takes(painting: Declaration[..., Any]) -> None:
    assert repr(painting) == "<task painter.paint(what, paints, when, coats)>"
    assert painting.__doc__ == "Paint it."


def notice(user: str, event: str = "ready", **facts: int | date) -> None:
    """Tell `user`, with any facts."""


def test_further_keyword_arguments_have_one_type() -> None:
    # Given a task that takes facts by any name
    declared: Declaration[..., Any] = Declaration("painter.notice", notice, keeps_result=False)
    # When it is called, and when a worker takes what was sent
    made = declared("ann", left=1, until=date(2026, 3, 15))
    # Then they travel beside the others, as JSON, and arrive in their types
    assert made.kwargs == {"user": "ann", "left": 1, "until": "2026-03-15"}
    arrived = declared.check_arguments((), made.kwargs)
    assert arrived == {"user": "ann", "event": "ready", "left": 1, "until": date(2026, 3, 15)}
    assert declared.s("ann", left=2).kwargs == {"left": 2}
    # And what is of another type is named
    with pytest.raises(InvalidArguments, match=r"left"):
        declared("ann", left="many")
    with pytest.raises(InvalidArguments, match=r"left"):
        declared.s(left="many")
    with pytest.raises(InvalidArguments, match="user"):
        declared(left=1)


def test_facts_that_were_left_out_are_no_arguments() -> None:
    declared: Declaration[..., Any] = Declaration("painter.notice", notice, keeps_result=False)
    assert declared("ann").kwargs == {"user": "ann"}
    assert declared.check_arguments(("ann",), {}) == {"user": "ann", "event": "ready"}
