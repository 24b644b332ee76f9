"""The judge itself, without a cluster."""

from pathlib import Path

import pytest

from tests.chaos import table
from tests.chaos.cases import CASES, NODES
from tests.chaos.inside.ledger import Book
from tests.chaos.oracle import Evidence, Fault, Letter, Publish, judge, percentile, read_journals


def publish(key: str, outcome: str = "confirmed") -> Publish:
    return Publish(key, at=1.0, took=0.1, outcome=outcome)


def test_it_has_nothing_to_say_where_each_task_is_done_or_a_dead_letter() -> None:
    # Given two tasks that are done, one of them at its second attempt, and one that deserves to be a dead letter
    evidence = Evidence(
        journal=[publish("a"), publish("b"), publish("bad"), publish("c", "unknown")],
        attempts=[("a", 1.0), ("b", 1.0), ("b", 3.0), ("bad", 1.0)],
        effects=[("a", 2.0), ("b", 4.0)],
        letters=[Letter("bad", "delivery_limit")],
    )

    # Then it passes, and is counted
    verdict = judge(evidence, guilty=["bad"])
    assert verdict.passed
    assert (verdict.effects, verdict.attempts, verdict.redelivered) == (2, 4, 1)
    assert verdict.dead == {"delivery_limit": 1}


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [
        ("lost", Evidence(journal=[publish("a"), publish("b")], effects=[("a", 2.0)])),
        ("twice", Evidence(journal=[publish("a")], effects=[("a", 2.0), ("a", 3.0)])),
        ("innocent", Evidence(journal=[publish("a")], letters=[Letter("a", "delivery_limit")])),
        ("untrue", Evidence(journal=[publish("a"), publish("b", "failed")], effects=[("a", 2.0), ("b", 2.0)])),
        ("void", Evidence(journal=[publish("a", "unknown")], effects=[("a", 2.0)])),
    ],
)
def test_it_says_what_broke(kind: str, evidence: Evidence) -> None:
    assert judge(evidence).kinds() == {kind}


def test_recovery_ends_when_the_last_interrupted_task_is_begun_again() -> None:
    # Given two tasks that a fault interrupted, one that was done before it, and one that began after it
    evidence = Evidence(
        journal=[publish("a")],
        attempts=[("before", 0.0), ("a", 8.0), ("b", 9.0), ("new", 12.5), ("a", 13.0), ("b", 15.0)],
        effects=[("before", 1.0), ("new", 14.0), ("a", 16.0), ("b", 17.0)],
        faults=[Fault(began=10.0, ended=12.0)],
    )

    # Then it is the second one's new beginning that counts
    assert judge(evidence).recovery == [3.0]


def test_a_guarded_effect_cannot_happen_twice_and_an_unguarded_one_can(tmp_path: Path) -> None:
    # Given a ledger with an effect
    book = Book(str(tmp_path / "ledger"))
    assert book.effect("a", guarded=True)

    # When it is to happen again, then the guard refuses it, and counts
    assert not book.effect("a", guarded=True)
    assert book.count() == {"attempts": 0, "effects": 1, "repelled": 1}
    # And without the guard it happens
    assert book.effect("a", guarded=False)
    assert book.count()["effects"] == 2


def test_a_line_that_is_still_being_written_is_no_outcome(tmp_path: Path) -> None:
    journal = tmp_path / "0.jsonl"
    journal.write_text('{"key": "a", "at": 1.0, "took": 0.1, "outcome": "confirmed"}\n{"key": "b", "at"')
    assert [one.key for one in read_journals([journal])] == ["a"]


def test_a_percentile_is_one_of_the_values() -> None:
    assert (percentile([3, 1, 2], 50), percentile([3, 1, 2], 99), percentile([], 50)) == (2, 3, 0.0)


def test_each_case_has_a_name_of_its_own_and_a_control() -> None:
    every = (*CASES, *NODES)
    assert len({case.name for case in every}) == len(every)
    assert all(case.control.without and case.control.sees for case in every)


def test_the_page_has_the_figures_of_the_last_run() -> None:
    assert table.main(check=True) == 0, "run `python -m tests.chaos.table`"
