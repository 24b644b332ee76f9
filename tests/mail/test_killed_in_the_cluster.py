"""kill -9 with RabbitMQ, Redis and a prefork pool: the broker itself gives the message to the next."""

from collections.abc import Callable

import pytest
from celery import Signature

from shared.signatures import mailer as contract
from shared.signatures.mailer import Kind
from shared.topology import dead_letter_queue
from tests.mail.cluster import Cluster
from tests.stand_ins.smtp import Act, Session, SmtpStandIn
from tests.waiting import eventually

pytestmark = pytest.mark.containers

ANN = "ann@example.org"
DEAD = dead_letter_queue("mailer")


def kill_child(cluster: Cluster) -> None:
    cluster.kill_pool()


def kill_all(cluster: Cluster) -> None:
    cluster.kill()
    cluster.start()


KILLS = pytest.mark.parametrize("kill", [kill_child, kill_all], ids=["a child of the pool", "the whole worker"])
Kill = Callable[[Cluster], None]


def then_kill(cluster: Cluster, kill: Kill, *, taken: bool) -> Act:
    def act(session: Session) -> None:
        if taken:
            session.take()
        kill(cluster)

    return act


@KILLS
@pytest.mark.parametrize("kind", ["notice", "report"])
def test_killed_before_the_end_it_is_sent_once(smtp: SmtpStandIn, cluster: Cluster, kind: Kind, kill: Kill) -> None:
    smtp.on("data", then_kill(cluster, kill, taken=False))
    answer = cluster.publish(mail(kind))
    eventually(lambda: answer.successful())
    assert len(smtp.mails) == 1 and cluster.dead_letters() == 0


@KILLS
def test_killed_in_doubt_what_may_not_come_twice_becomes_a_dead_letter(
    smtp: SmtpStandIn, cluster: Cluster, kill: Kill
) -> None:
    smtp.on("end", then_kill(cluster, kill, taken=True))
    cluster.publish(mail("notice"))
    eventually(lambda: cluster.dead_letters() == 1)
    assert len(smtp.mails) == 1


@KILLS
def test_killed_in_doubt_what_must_arrive_is_sent_again(smtp: SmtpStandIn, cluster: Cluster, kill: Kill) -> None:
    smtp.on("end", then_kill(cluster, kill, taken=True))
    answer = cluster.publish(mail("report"))
    eventually(lambda: answer.successful())
    assert len(smtp.mails) == 2 and cluster.dead_letters() == 0


def test_what_the_server_refuses_for_good_becomes_a_dead_letter(smtp: SmtpStandIn, cluster: Cluster) -> None:
    smtp.on("rcpt", "550 5.1.1 no such user")
    answer = cluster.publish(mail("notice"))
    eventually(lambda: cluster.dead_letters() == 1)
    # And whoever asks is told the server's words
    eventually(lambda: answer.failed())
    assert "550 5.1.1 no such user" in str(answer.result)
    assert len(smtp.sessions) == 1


def mail(kind: Kind) -> Signature:
    """A mail of this kind."""
    return contract.send_email([ANN], "subject", "text", kind=kind)
