"""What a task's body may be written in: JSON, and by choice MessagePack or YAML.

Each carries the values that JSON carries, and no others: a body is made of JSON's plain values and read back through
them. So a task, its callbacks and its dead letter look the same whatever they travelled in, and a tag, an extension
type or an alias, with which a small message could become a large one, is refused.
"""

import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from kombu.serialization import registry
from kombu.utils import json as kombu_json

from shared.errors import Error

Name = Literal["json", "msgpack", "yaml"]

#: Bytes of a YAML body. Reading one takes a second a megabyte, in which the worker's loop does nothing else.
LARGEST_YAML = 2**19
#: Lists in lists in a YAML body. libyaml itself stops at 1000.
DEEPEST_YAML = 100


class BodyTooLarge(Error, ValueError):
    """A task's arguments are more than its message may hold. Pass a reference to a file instead."""


class NotPlain(Error, ValueError):
    """A body holds what no JSON has. Its publisher must write plain values."""


class Serializer(NamedTuple):
    """How a body is written and read.

    Attributes:
        kombu: its name in kombu's registry.
        content_type, content_encoding: the message's properties that say so.
        needs: the module without which it cannot be used.
    """

    kombu: str
    content_type: str
    content_encoding: str
    needs: str


#: Names of our own, so that kombu's stay as they are in a program that has another Celery app.
SERIALIZERS: dict[Name, Serializer] = {
    "json": Serializer("json", "application/json", "utf-8", "json"),
    "msgpack": Serializer("plain-msgpack", "application/x-msgpack", "binary", "msgpack"),
    "yaml": Serializer("plain-yaml", "application/x-yaml", "utf-8", "yaml"),
}


def available(name: Name) -> bool:
    """Whether this Python can write and read it."""
    return find_spec(SERIALIZERS[name].needs) is not None


def connect(*, reading: bool) -> None:
    """Make the serializers known to kombu. A second call does nothing new.

    Args:
        reading: whether this process also reads bodies as said above, whoever wrote them.
    """
    for name, (write, read) in _CODECS.items():
        kind = SERIALIZERS[name]
        if available(name):
            reader = partial(_read, read) if reading else None
            registry.register(kind.kombu, write, reader, kind.content_type, kind.content_encoding)


def decode(body: bytes, content_type: Any) -> Any:
    """The value of a body, to look at.

    Raises:
        ValueError: it is none of its kind, or of no kind that is known here.
    """
    for name, kind in SERIALIZERS.items():
        if content_type == kind.content_type and name in _CODECS and available(name):
            return json.loads(_text(_CODECS[name][1](body)))
    return json.loads(body)


def _read(read: Callable[[Any], Any], body: Any) -> Any:
    # With kombu's marks read.
    return kombu_json.loads(_text(read(body)))


def _plain(value: Any) -> Any:
    """`value` as JSON would give it back; kombu's JSON knows dates, UUIDs and the like, and marks them."""
    return json.loads(kombu_json.dumps(value))


def _text(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:
        raise NotPlain(f"the body holds what no JSON has: {error}") from None


def _pack(value: Any) -> bytes:
    import msgpack

    return bytes(msgpack.packb(_plain(value)))


def _unpack(body: Any) -> Any:
    import msgpack

    return msgpack.unpackb(body)


def _dump(value: Any) -> str:
    import yaml

    # Flow style: a scalar in a block can be read in more than one way, and takes longer.
    text = yaml.dump(_plain(value), Dumper=_dumper(), default_flow_style=True, allow_unicode=True, width=2**20)
    if len(text) > LARGEST_YAML:
        raise BodyTooLarge(
            f"a task's YAML has {len(text)} characters, and may have {LARGEST_YAML}: use JSON, or a file"
        )
    return str(text)


def _load(body: Any) -> Any:
    import yaml

    if len(body) > LARGEST_YAML:
        raise BodyTooLarge(f"the YAML has {len(body)} bytes, and may have {LARGEST_YAML}")
    text = body if isinstance(body, str) else bytes(body).decode("utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        _look_for_aliases_and_depth(loader, yaml)
    finally:
        loader.dispose()
    loader = _loader()(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _look_for_aliases_and_depth(loader: Any, yaml: Any) -> None:
    """Raise NotPlain, before anything is made, of what would make much of little."""
    depth = 0
    while loader.check_event():
        event = loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            raise NotPlain("the YAML holds an alias: write each value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_YAML:
            raise NotPlain(f"the YAML is deeper than {DEEPEST_YAML}")


def _dumper() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return type("Dumper", (base,), {"ignore_aliases": lambda self, data: True})


def _loader() -> Any:
    """The safe loader without what JSON has not: a date without quotes stays the text that it is."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    plain = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_IN_JSON]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    return type("Loader", (base,), {"yaml_implicit_resolvers": plain})


_NOT_IN_JSON = frozenset({"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"})

_CODECS: dict[Name, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "msgpack": (_pack, _unpack),
    "yaml": (_dump, _load),
}
