"""A storm of errors, with RabbitMQ, Redis and a prefork pool."""

import pytest

from shared.signatures import mailer as contract
from tests.mail.cluster import Cluster
from tests.servers import OwnRedis
from tests.stand_ins.smtp import SmtpStandIn
from tests.waiting import eventually

pytestmark = pytest.mark.containers


def test_5000_equal_errors_make_one_mail_and_a_digest_with_the_count(smtp: SmtpStandIn, cluster: Cluster) -> None:
    # Given 5,000 reports of one fault, and of 30 others, more than an hour's cap
    one = contract.report_error("division by zero", "text", fingerprint="ZeroDivisionError:app.py:3")
    others = [contract.report_error(f"fault {number}", "text", fingerprint=f"fault:{number}") for number in range(30)]
    answers = [cluster.publish(report) for report in [one] * 5000 + others]
    # When the worker has worked through them, and is asked for the digest
    eventually(lambda: cluster.has_done(answers), patience=120)
    cluster.publish(contract.send_digest("1h"))
    digest = smtp.wait_for_mails(21)[-1]
    # Then no more mails went out than the cap allows, and the digest tells of all the others
    assert len(smtp.mails) == 20 + 1
    assert digest.message["Subject"] == "5010 error reports held back in the last hour"
    assert "4999 times: division by zero" in digest.text and digest.text.count("1 time: fault") == 11


def test_redis_goes_away_in_a_storm_and_comes_back(smtp: SmtpStandIn, cluster: Cluster, redis: OwnRedis) -> None:
    # Given a worker that has lost Redis
    redis.stop()
    try:
        # When one fault is reported many times
        reports = [contract.report_error(f"fault {number}", "text", fingerprint="one") for number in range(50)]
        answers = [cluster.publish(report) for report in reports]
        # Then it is mailed once
        smtp.wait_for_mails(1)
        eventually(lambda: cluster.has_done(answers))
        assert len(smtp.mails) == 1
    finally:
        redis.start()
    # And when Redis is back, the digest has the others
    cluster.publish(contract.send_digest("1h"))
    mails = smtp.wait_for_mails(2)
    print(mails[1].text, cluster.log.read_text())
    assert mails[1].message["Subject"] == "49 error reports held back in the last hour"
