"""The ledger, over each store that it is kept in."""

import threading

import pytest

from services.mailer.ledger import Claim, Entry, LeaseLost, Ledger, LedgerAway, State
from services.mailer.ledger_redis import RedisLedger
from tests.servers import OwnRedis, redis_client
from tests.waiting import eventually

LONG = 60.0
SHORT = 0.05


def claim(owner: str, *, event: str = "task", lease: float = LONG, park: bool = False, fresh: bool = True) -> Claim:
    return Claim(owner, event, lease, park, fresh)


def claimed(ledger: Ledger, by: Claim, key: str = "mail:ann") -> State:
    return ledger.claim([key], by)[0].state


def test_what_is_free_can_be_claimed_once(ledger: Ledger) -> None:
    # Given a mail that a worker has claimed
    assert claimed(ledger, claim("one")) is State.CLAIMED
    # When another worker asks for it
    entry = ledger.claim(["mail:ann"], claim("two", event="other"))[0]
    # Then it is told whose it is, and how long
    assert (entry.state, entry.event) == (State.BUSY, "task")
    assert LONG - 5 < entry.wait <= LONG


def test_of_many_workers_that_claim_at_once_one_gets_the_mail(ledger: Ledger) -> None:
    # Given many workers
    found: list[State] = []
    ready = threading.Barrier(8)

    def ask(number: int) -> None:
        ready.wait()
        found.append(claimed(ledger, claim(f"worker {number}")))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    # When all of them claim the mail in the same moment
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then one has it
    assert sorted(found) == sorted([State.CLAIMED] + [State.BUSY] * 7)


def test_what_was_sent_is_never_claimed_again(ledger: Ledger) -> None:
    # Given a mail that was sent
    ours = claim("one")
    claimed(ledger, ours)
    ledger.begin(["mail:ann"], ours)
    ledger.record(ours, sent=["mail:ann"])
    # When anybody claims it, of whatever kind of mail
    # Then it is told who has sent it
    for park in (True, False):
        assert ledger.claim(["mail:ann"], claim("two", event="other", park=park)) == [Entry(State.SENT, "task")]


def test_a_dead_worker_that_had_not_begun_leaves_no_doubt(ledger: Ledger) -> None:
    # Given a worker that claimed a mail and died before it sent anything
    claimed(ledger, claim("dead", lease=SHORT))
    # When its lease is over
    # Then the mail can be claimed, even where it may not be sent twice
    eventually(lambda: claimed(ledger, claim("two", park=True)) is State.CLAIMED)


@pytest.mark.parametrize(("park", "expected"), [(True, State.PARKED), (False, State.CLAIMED)])
def test_a_worker_that_died_while_sending_leaves_a_doubt(ledger: Ledger, park: bool, expected: State) -> None:
    # Given a worker that died between the end of the message and the answer
    dead = claim("dead", lease=SHORT)
    claimed(ledger, dead)
    ledger.begin(["mail:ann"], dead)
    # When its lease is over
    found = State.BUSY
    while found is State.BUSY:
        found = claimed(ledger, claim("two", park=park))
    # Then the mail's kind decides
    assert found is expected


def test_what_is_parked_stays_so_until_a_person_frees_it(ledger: Ledger) -> None:
    # Given a mail to two, in doubt for both, and another mail in doubt
    dead = claim("dead")
    keys = ["mail:ann", "mail:bob", "other:ann"]
    ledger.claim(keys, dead)
    ledger.begin(keys, dead)
    ledger.park(keys, dead)
    assert [entry.state for entry in ledger.claim(keys, claim("two", park=True))] == [State.PARKED] * 3
    # When it is freed
    assert ledger.forget_parked("mail:") == 2
    # Then it can be claimed, and the other one cannot
    found = ledger.claim(keys, claim("three", park=True))
    assert [entry.state for entry in found] == [State.CLAIMED, State.CLAIMED, State.PARKED]


def test_freeing_touches_nothing_but_what_is_parked(ledger: Ledger) -> None:
    ours = claim("one")
    ledger.claim(["mail:ann", "mail:bob"], ours)
    ledger.record(ours, sent=["mail:ann"])
    assert ledger.forget_parked("mail:") == 0
    assert [entry.state for entry in ledger.claim(["mail:ann", "mail:bob"], claim("two"))] == [State.SENT, State.BUSY]


def test_who_lost_the_lease_may_not_begin(ledger: Ledger) -> None:
    # Given a worker that was so slow that another one has claimed its mails
    slow, other = claim("slow", lease=SHORT), claim("other")
    ledger.claim(["mail:ann", "mail:bob"], slow)
    eventually(lambda: claimed(ledger, other, "mail:bob") is State.CLAIMED)
    # When it comes to the end of its message
    # Then it may not send it to anybody
    with pytest.raises(LeaseLost):
        ledger.begin(["mail:ann", "mail:bob"], slow)
    # And nothing is in doubt by that
    eventually(lambda: claimed(ledger, claim("third", park=True), "mail:ann") is State.CLAIMED)


def test_beginning_extends_the_lease(ledger: Ledger) -> None:
    # Given a lease that is nearly over when the end of the message is sent
    ours = claim("one", lease=LONG)
    ledger.claim(["mail:ann"], ours)
    before = ledger.claim(["mail:ann"], claim("two"))[0].wait
    eventually(lambda: ledger.claim(["mail:ann"], claim("two"))[0].wait < before - 0.05)
    # When the worker begins
    ledger.begin(["mail:ann"], ours)
    # Then it has all the time again
    assert ledger.claim(["mail:ann"], claim("two"))[0].wait > before - 0.05


def test_who_sent_it_after_all_is_believed(ledger: Ledger) -> None:
    # Given a worker that sent a mail while its lease ran out, and another one that has claimed it since
    slow = claim("slow", lease=SHORT)
    claimed(ledger, slow)
    ledger.begin(["mail:ann"], slow)
    other = claim("other")
    eventually(lambda: claimed(ledger, other) is State.CLAIMED)
    # When the first one says that it is sent
    ledger.record(slow, sent=["mail:ann"])
    # Then the other one may not send it
    with pytest.raises(LeaseLost):
        ledger.begin(["mail:ann"], other)


def test_what_is_given_back_is_free_at_once(ledger: Ledger) -> None:
    ours = claim("one")
    claimed(ledger, ours)
    ledger.begin(["mail:ann"], ours)
    ledger.release(["mail:ann"], ours)
    assert claimed(ledger, claim("two", park=True)) is State.CLAIMED


def test_nobody_gives_back_what_is_not_theirs(ledger: Ledger) -> None:
    claimed(ledger, claim("one"))
    for change in (ledger.release, ledger.park):
        change(["mail:ann"], claim("two"))
    ledger.record(claim("two"), refused={"mail:ann": "550 no"})
    assert claimed(ledger, claim("three")) is State.BUSY


def test_a_refusal_counts_for_the_attempts_of_its_task(ledger: Ledger) -> None:
    # Given a recipient that the server refused at a task's first attempt
    ours = claim("one")
    claimed(ledger, ours)
    ledger.record(ours, refused={"mail:ann": "550 no such user"})
    # When the task tries again, for its other recipients
    again = ledger.claim(["mail:ann"], claim("two", fresh=False))[0]
    # Then this one is not tried
    assert (again.state, again.note) == (State.REFUSED, "550 no such user")
    # But when its dead letter is replayed, it is
    assert claimed(ledger, claim("three", fresh=True)) is State.CLAIMED


def test_another_task_of_the_same_key_tries_a_refused_recipient(ledger: Ledger) -> None:
    ours = claim("one")
    claimed(ledger, ours)
    ledger.record(ours, refused={"mail:ann": "552 mailbox full"})
    assert claimed(ledger, claim("two", event="other", fresh=False)) is State.CLAIMED


def test_a_redis_that_is_away_says_so_in_our_words() -> None:
    # Given a Redis that nobody answers for
    ledger = RedisLedger(redis_client(port=1))
    ours = claim("one")
    # Then every step tells it as one error
    for step in (
        lambda: ledger.claim(["k"], ours),
        lambda: ledger.begin(["k"], ours),
        lambda: ledger.record(ours, sent=["k"]),
        lambda: ledger.release(["k"], ours),
        lambda: ledger.park(["k"], ours),
        lambda: ledger.forget_parked("k"),
    ):
        with pytest.raises(LedgerAway):
            step()


def test_entries_in_redis_do_not_stay_for_ever(redis: OwnRedis) -> None:
    ledger = RedisLedger(redis.client)
    ours = claim("one")
    keys = ["sent", "refused", "parked", "claimed"]
    ledger.claim(keys, ours)
    ledger.record(ours, sent=["sent"], refused={"refused": "no"})
    ledger.park(["parked"], ours)
    assert all(redis.client.ttl(f"mailer:ledger:{key}") > 0 for key in keys)
