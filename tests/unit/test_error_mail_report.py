"""From a log record to a report: what it tells, and what it must not."""

import logging
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from shared.error_mail import report
from shared.error_mail.masking import MASK, Masking, is_secret
from shared.error_mail.report import LONGEST_REPORT, build
from shared.signatures import mailer as contract

PASSWORD = "correct-horse-battery"


def record_of(work: Callable[[], Any], message: str = "it broke", *args: Any) -> logging.LogRecord:
    """The record of the exception that `work` raises."""
    try:
        work()
    except BaseException:
        return logging.LogRecord("shop.web", logging.ERROR, "/srv/shop/web.py", 7, message, args, sys.exc_info())
    raise AssertionError("nothing was raised")


def divide() -> float:
    return 1 / 0


def test_it_says_what_happened_and_where() -> None:
    # Given a fault
    told = build(record_of(divide), "shop")
    # Then the subject names it, the text has its traceback, and the fingerprint type, file and line
    assert told["subject"] == "[shop] ZeroDivisionError: division by zero"
    assert "in divide" in told["message"] and "return 1 / 0" in told["message"]
    line = divide.__code__.co_firstlineno + 1
    assert told["fingerprint"] == f"ZeroDivisionError:tests/unit/test_error_mail_report.py:{line}"
    # And it is what the mailer takes
    contract.report_error(**told)


def test_a_record_without_an_exception_is_known_by_its_place() -> None:
    record = logging.LogRecord("shop", logging.ERROR, "/srv/shop/pay.py", 12, "no answer from %s", ("bank",), None)
    told = build(record, "shop")
    assert told["subject"] == "[shop] no answer from bank"
    assert told["fingerprint"] == "shop:srv/shop/pay.py:12"


def test_equal_faults_have_one_fingerprint_and_others_another() -> None:
    def other() -> None:
        raise ValueError("x")

    prints = [build(record_of(work), "shop")["fingerprint"] for work in (divide, divide, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_fault_that_ends_in_a_library_is_known_by_our_line() -> None:
    import json

    def parse() -> None:
        json.loads("{")

    assert "test_error_mail_report.py" in build(record_of(parse), "shop")["fingerprint"]


class Nasty(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def deep(level: int = 0) -> None:
    deep(level + 1)


def surrogate() -> None:
    raise ValueError("half a pair: \ud800, a break:\r\nBcc: eve@example.org\u2028")


def huge() -> None:
    text = "x" * 10_000_000
    number = 10**100_000
    raise ValueError(text, number)


@pytest.mark.parametrize("work", [deep, surrogate, huge, lambda: (_ for _ in ()).throw(Nasty())])
def test_whatever_was_raised_becomes_a_report_that_the_mailer_takes(work: Callable[[], Any]) -> None:
    told = build(record_of(work), "sh\nop")
    contract.report_error(**told)
    assert len(told["message"]) <= LONGEST_REPORT + 100


def test_a_record_whose_arguments_do_not_fit_is_told_all_the_same() -> None:
    assert "do not fit" in build(record_of(divide, "%d of %s", "x"), "shop")["message"]


# --- Secrets ----------------------------------------------------------------------------------------------------------


class Request:
    """What the report reads of a Django request."""

    META: ClassVar[dict[str, str]] = {}
    method = "POST"

    def __init__(self, form: dict[str, str], headers: dict[str, str], path: str) -> None:
        self.headers = headers
        self._path = path
        self.POST = type("Form", (), {"lists": lambda _: [(name, [value]) for name, value in form.items()]})()

    def get_full_path(self) -> str:
        return self._path


def sign_in(form: dict[str, str], body: bytes, config: dict[str, Any]) -> None:
    """A view that has the password in every way."""
    password = form["password"]
    user = form["user"]
    url = f"https://{user}:{password}@bank.test/"
    query = f"user={user}&password={password}"
    raise PermissionError(f"{user} cannot sign in at {url} with {password} ({query})")


def test_a_password_is_nowhere_in_the_report() -> None:
    # Given a request with a password in its form, its headers and its path, and a view that has it in its variables,
    # in a body, in nested values and in the exception's text
    form = {"user": "ann", "password": PASSWORD}
    config = {"db": {"api_key": f"{PASSWORD}2", "hosts": ["a"]}, "auth": [PASSWORD, "second-secret"]}
    record = record_of(lambda: sign_in(form, f"user=ann&password={PASSWORD}".encode(), config))
    headers = {
        "Host": "shop.test",
        "Authorization": "Bearer tok_1234567",
        "Cookie": "sid=tok_999",
        "Referer": "/?token=abc",
    }
    record.request = Request(form, headers, f"/login?next=/&token={PASSWORD}3")
    # When it is reported
    told = build(record, "shop")
    text = f"{told['subject']}\n{told['message']}"
    # Then none of them is there
    for secret in (PASSWORD, "tok_1234567", "tok_999", "second-secret", "token=abc"):
        assert secret not in text
    # And what is not secret is
    for shown in ("POST /login?next=/", "Host: shop.test", "user = 'ann'", "ann cannot sign in", "'hosts': list('a')"):
        assert shown in text
    assert MASK in text


def test_only_headers_that_help_are_told() -> None:
    record = record_of(divide)
    headers = {"Host": "shop.test", "X-Real-Ip": "192.0.2.1", "X-Anything": "private matter"}
    record.request = Request({}, headers, "/")
    text = build(record, "shop")["message"]
    assert "shop.test" in text and "192.0.2.1" not in text and "private matter" not in text


class Lazy(dict[str, str]):
    """A value that is expensive to look at."""

    def __repr__(self) -> str:
        raise AssertionError("a report must not ask")

    items = __iter__ = __repr__  # type: ignore[assignment]


def test_nobodys_code_is_run_to_show_a_value() -> None:
    def broken(rows: object, form: Lazy) -> None:
        raise ValueError

    class Rows:
        def __repr__(self) -> str:
            raise AssertionError("a report must not ask a database")

    text = build(record_of(lambda: broken(Rows(), Lazy(a="1"))), "shop")["message"]
    assert "Rows>" in text and "form = {'a': '1'}" in text


SECRET_NAMES = [
    "password",
    "passwd",
    "PWD",
    "secret_key",
    "X-Api-Key",
    "api_key",
    "apikey",
    "access_token",
    "Authorization",
    "sessionid",
    "csrftoken",
    "set-cookie",
    "private_key",
    "card_number",
    "credentials",
    "pin",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_these_names_are_secret(name: str) -> None:
    assert is_secret(name)


PLAIN_NAMES = ["user", "key", "monkey", "author", "author_id", "passive", "spin", "name", "keyboard", "email"]


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_these_names_are_not(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a password=hunter2&b=1", f"a password={MASK}&b=1"),
        ("{'token': 'hunter2', 'b': 1}", f"{{'token': {MASK}, 'b': 1}}"),
        ('{"api_key":"hunter2"}', f'{{"api_key":{MASK}}}'),
        ("secret = 'two words'", f"secret = {MASK}"),
        ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {MASK}"),
        ("amqp://ann:hunter2@host/", f"amqp://ann:{MASK}@host/"),
        ("if auth_mode == 'basic':", "if auth_mode == 'basic':"),
        ("AuthError: no such user", "AuthError: no such user"),
        ("KeyError: 'token'", "KeyError: 'token'"),
    ],
)
def test_a_secret_beside_its_name_is_masked_in_any_text(text: str, clean: str) -> None:
    assert Masking().clean(text) == clean


# --- Where the request comes from -------------------------------------------------------------------------------------


def test_an_asgi_server_is_asked_through_the_traceback() -> None:
    # Given a framework that logs without its request, as uvicorn does for every one
    def server(scope: dict[str, Any]) -> None:
        divide()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "query_string": b"a=1",
        "headers": [(b"host", b"shop.test")],
    }
    told = build(record_of(lambda: server(scope)), "shop")
    assert told["subject"].endswith("(GET /x)") and "GET /x?a=1\nhost: shop.test" in told["message"]


def test_a_wsgi_server_is_asked_through_the_traceback() -> None:
    def server(environ: dict[str, Any]) -> None:
        divide()

    environ = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/y", "HTTP_HOST": "shop.test", "CONTENT_TYPE": "text/plain"}
    told = build(record_of(lambda: server(environ)), "shop")
    assert "PUT /y\nHost: shop.test\nContent-Type: text/plain" in told["message"]


def test_a_request_that_cannot_be_read_costs_the_report_nothing() -> None:
    class Broken:
        META: ClassVar[dict[str, str]] = {}

        @property
        def POST(self) -> None:
            raise OSError("the client is gone")

    record = record_of(divide)
    record.request = Broken()
    assert "division by zero" in build(record, "shop")["message"]


def test_a_long_text_keeps_its_two_ends() -> None:
    text = report.shorten("a" * LONGEST_REPORT + "z")
    assert text.startswith("a") and text.endswith("z") and "1 characters left out" in text
