"""What a body may be written in: JSON's values, whatever carries them, and never more than they say."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgpack
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError
from kombu.serialization import dumps, loads

from shared import serializers
from shared.serializers import LARGEST_YAML, SERIALIZERS, Name
from shared.signatures import calculator

NAMES: tuple[Name, ...] = ("json", "msgpack", "yaml")
OTHERS: tuple[Name, ...] = ("msgpack", "yaml")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
ALL = [kind.content_type for kind in SERIALIZERS.values()]


@pytest.fixture(autouse=True, scope="module")
def connected() -> None:
    """As in a worker."""
    serializers.connect(reading=True)


def there_and_back(name: Name, value: Any) -> Any:
    content_type, encoding, body = dumps(value, serializer=SERIALIZERS[name].kombu)
    body = body.encode() if isinstance(body, str) else body
    return loads(body, content_type, encoding, accept=ALL)


@pytest.mark.parametrize("name", NAMES)
@given(VALUES)
def test_every_value_of_json_comes_back_as_it_was(name: Name, value: Any) -> None:
    # YAML has no text for a lone surrogate or a control character; PyYAML escapes what it can.
    assert there_and_back(name, [value]) == [value]


@pytest.mark.parametrize("name", NAMES)
def test_what_celery_puts_into_a_body_comes_back(name: Name) -> None:
    # Given a signature, a date and a UUID among a canvas' options, which are no plain values
    at, which = datetime(2026, 11, 20, tzinfo=UTC), UUID(int=7)
    value = [[], {"to": at}, {"callbacks": [calculator.add(1, 2).set(eta=at, task_id=which)]}]
    # Then each serializer gives what JSON gives
    assert there_and_back(name, value) == there_and_back("json", value)
    assert there_and_back(name, value)[1] == {"to": at}


@pytest.mark.parametrize("name", OTHERS)
def test_a_body_is_shown_as_plain_json(name: Name) -> None:
    _, _, body = dumps([[], {"to": datetime(2026, 11, 20, tzinfo=UTC)}, {}], serializer=SERIALIZERS[name].kombu)
    shown = serializers.decode(body.encode() if isinstance(body, str) else body, SERIALIZERS[name].content_type)
    assert shown == [[], {"to": {"__type__": "datetime", "__value__": "2026-11-20T00:00:00+00:00"}}, {}]


DEEP = 5000
BROKEN: dict[str, tuple[Name, bytes]] = {
    "an alias": ("yaml", b"[&a [], {}, *a]"),
    "a billion laughs": (
        "yaml",
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 108)),
    ),
    "an object of Python": ("yaml", b"!!python/object/apply:os.system ['true']"),
    "a date of YAML": ("yaml", b"!!timestamp 2026-11-20"),
    "bytes of YAML": ("yaml", b"!!binary aGk="),
    "a set": ("yaml", b"!!set {a, b}"),
    "two documents": ("yaml", b"--- []\n--- []"),
    "no UTF-8": ("yaml", b"\xff\xfe\x00"),
    "deep YAML": ("yaml", b"[" * DEEP + b"]" * DEEP),
    "deep YAML that is cut off": ("yaml", b"[" * 100_000),
    "large YAML": ("yaml", b"[" + b" " * LARGEST_YAML + b"]"),
    "a YAML number without end": ("yaml", b"[" + b"9" * 10_000 + b"]"),
    "msgpack that is cut off": ("msgpack", b"\x93\x90\x80"),
    "msgpack with more behind": ("msgpack", b"\x93\x90\x80\xc0\xc0"),
    "a list of 2**32 that is not there": ("msgpack", b"\xdd\xff\xff\xff\xff"),
    "a text of 2**32 that is not there": ("msgpack", b"\xdb\xff\xff\xff\xff"),
    "deep msgpack": ("msgpack", b"\x91" * DEEP),
    "bytes": ("msgpack", msgpack.packb([b"\xff"])),
    "an extension": ("msgpack", msgpack.packb([msgpack.ExtType(1, b"x")])),
    "a time of msgpack": ("msgpack", msgpack.packb([msgpack.Timestamp(1)])),
    "a list as a key": ("msgpack", b"\x81\x90\xc0"),
    "an unknown mark": ("msgpack", msgpack.packb({"__type__": "x", "__value__": 1})),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_none_of_its_kind_is_refused_soon(what: str) -> None:
    name, body = BROKEN[what]
    kind = SERIALIZERS[name]
    begun = time.process_time()
    with pytest.raises(DecodeError):
        loads(body, kind.content_type, kind.content_encoding, accept=ALL)
    # Its worker does nothing else meanwhile.
    assert time.process_time() - begun < 10


@given(st.binary(max_size=200))
@pytest.mark.parametrize("name", OTHERS)
def test_any_bytes_are_a_value_or_an_error(name: Name, body: bytes) -> None:
    kind = SERIALIZERS[name]
    with suppress(DecodeError):
        loads(body, kind.content_type, kind.content_encoding, accept=ALL)


def test_a_foreign_writers_date_stays_text() -> None:
    kind = SERIALIZERS["yaml"]
    got = loads(b"[[], {to: 2026-12-31, '<<': 1}, {}]", kind.content_type, "utf-8", accept=ALL)
    assert got == [[], {"to": "2026-12-31", "<<": 1}, {}]


def test_too_much_yaml_is_refused_where_it_is_written() -> None:
    with pytest.raises(EncodeError, match="use JSON, or a file"):
        dumps(["x" * LARGEST_YAML], serializer=SERIALIZERS["yaml"].kombu)


def test_shared_values_are_written_out() -> None:
    one = ["x"]
    _, _, body = dumps([one, one], serializer=SERIALIZERS["yaml"].kombu)
    assert yaml.safe_load(body) == [["x"], ["x"]] and "*" not in body


def test_what_a_worker_does_not_accept_is_not_read() -> None:
    _, encoding, body = dumps([1], serializer=SERIALIZERS["msgpack"].kombu)
    with pytest.raises(ContentDisallowed):
        loads(body, SERIALIZERS["msgpack"].content_type, encoding, accept=["application/json"])
