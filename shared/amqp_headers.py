"""Tables of headers, read by comparing them with those that came before.

Messages of one publisher have the same names, the same kinds and mostly the same values, at the same places: the id, a
time and the arguments differ. So of tables of one length a layout is learned: the bytes that were the same in all of
them, and the places where they were not. A table whose bytes are those of a layout needs no decoding but there; any
other is read field by field, and teaches.

Source: AMQP 0-9-1, 4.2, with the table types of RabbitMQ's errata.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Any, NamedTuple

from amqp.serialization import _read_item

#: Bytes of the largest table that is learned, lengths that are kept, layouts of each, and lessons of each.
LARGEST, LENGTHS, LAYOUTS, LESSONS = 4096, 256, 4, 64

_U32 = Struct(">I").unpack_from
_TEXT = 0x53
#: Kinds that have a length of their own: long text, bytes, table, array.
_WITH_LENGTH = frozenset(b"SxFA")
#: Values that may be given to many at once.
_UNCHANGEABLE = (str, int, float, bool, bytes, type(None))
#: Of names that come again and again: header names, tags, exchanges, routing keys.
_NAMES_KEPT = 4096
_names: dict[bytes, str] = {}


class _Field(NamedTuple):
    name: str
    #: Offsets in the table: of the octet that tells the kind, and behind the value.
    kind: int
    end: int
    value: Any


class Layout:
    """What tables have in common.

    Attributes:
        varying: names whose values are not always the same; their kinds are, and the lengths of their texts.
        notes: for what readers find out once of all tables of this layout.
    """

    __slots__ = ("_constants", "_copies", "_fields", "_items", "_table", "_template", "_texts", "notes", "varying")

    def __init__(self, table: bytes, fields: list[_Field], varying: frozenset[str]) -> None:
        self._table, self._fields, self.varying = table, fields, varying
        self.notes: dict[Any, Any] = {}
        self._template = {one.name: one.value for one in fields}
        #: What must be there, and where.
        self._constants: list[tuple[bytes, int]] = []
        self._texts: list[tuple[str, int, int]] = []
        self._copies: list[tuple[str, list[Any] | dict[str, Any]]] = []
        self._items: list[tuple[str, int]] = []
        begin = 0
        for one in fields:
            if one.name not in varying:
                if _is_flat(one.value):
                    self._copies.append((one.name, one.value.copy()))
                elif not isinstance(one.value, _UNCHANGEABLE):
                    self._items.append((one.name, one.kind))
                continue
            kind = table[one.kind]
            value = one.kind + (5 if kind in _WITH_LENGTH else 1)
            self._constants.append((table[begin:value], begin))
            begin = one.end
            if kind == _TEXT:
                self._texts.append((one.name, value, one.end))
            else:
                self._items.append((one.name, one.kind))
        self._constants.append((table[begin:], begin))

    def read(self, buf: bytes, at: int) -> dict[str, Any] | None:
        """The table whose fields begin at `at`; None where it is of another layout.

        Raises:
            UnicodeDecodeError: a text is none.
        """
        for constant, offset in self._constants:
            if not buf.startswith(constant, at + offset):
                return None
        table = self._template.copy()
        for name, begin, end in self._texts:
            table[name] = buf[at + begin : at + end].decode()
        for name, value in self._copies:
            table[name] = value.copy()
        for name, begin in self._items:
            table[name] = _read_item(buf, at + begin)[0]
        return table

    def wider(self, table: bytes, fields: list[_Field], *, texts_only: bool) -> "Layout | None":
        """The layout of those before and of this one too.

        None where their fields are others, or with `texts_only` where more than texts would vary: a number of few
        values is better a part of a layout.
        """
        if [one[:3] for one in fields] != [one[:3] for one in self._fields]:
            return None
        before, varying = self._table, set(self.varying)
        for one in fields:
            begin = one.kind
            if table[begin : one.end] == before[begin : one.end]:
                continue
            fixed = begin + (5 if table[begin] in _WITH_LENGTH else 1)
            if table[begin:fixed] != before[begin:fixed]:
                return None
            if texts_only and table[begin] != _TEXT and one.name not in varying:
                return None
            varying.add(one.name)
        return Layout(table, fields, frozenset(varying))


class Layouts:
    """The layouts of one connection's tables."""

    def __init__(self) -> None:
        #: By length: layouts, the one that was learned last first. None is there before the second table came.
        self._known: dict[int, list[Layout] | None] = {}
        #: By length: how often a layout was learned.
        self._lessons: dict[int, int] = {}

    def read(self, buf: bytes, at: int) -> tuple[dict[str, Any], int, Layout | None]:
        """The table whose length stands at `at`, where it ends, and its layout if it has one.

        Raises:
            UnicodeDecodeError, IndexError: it is not well formed, or a text is none.
        """
        size = _U32(buf, at)[0]
        at += 4
        known = self._known.get(size)
        if known:
            for layout in known:
                table = layout.read(buf, at)
                if table is not None:
                    return table, at + size, layout
        end = at + size
        if size > LARGEST or end > len(buf) or self._lessons.get(size, 0) >= LESSONS:
            return read_table(buf, at, end), end, None
        return self._learned(buf[at:end], known), end, None

    def _learned(self, table: bytes, known: list[Layout] | None) -> dict[str, Any]:
        size = len(table)
        if known is None and size not in self._known:
            # Lengths that come once are many.
            if len(self._known) >= LENGTHS:
                self._known.clear()
                self._lessons.clear()
            self._known[size] = None
            return read_table(table, 0, size)
        fields = list(_fields(table, 0, size))
        found = {one.name: one.value for one in fields}
        if fields and fields[-1].end == size and len(found) == len(fields):
            known = known or []
            for index, one in enumerate(known):
                if wider := one.wider(table, fields, texts_only=len(known) < LAYOUTS):
                    known[index] = wider
                    break
            else:
                known.insert(0, Layout(table, fields, frozenset()))
            self._known[size] = known[:LAYOUTS]
            self._lessons[size] = self._lessons.get(size, 0) + 1
        return found


def read_table(buf: bytes, at: int, end: int) -> dict[str, Any]:
    """The fields between two offsets.

    Raises:
        UnicodeDecodeError, IndexError: they are not well formed, or a text is none.
    """
    return {name: value for name, _, _, value in _fields(buf, at, end)}


def _fields(buf: bytes, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        first = at + 1
        kind = first + buf[at]
        key = buf[first:kind]
        name = _names.get(key) or text_of(key)
        value: Any
        if buf[kind] == _TEXT:
            first = kind + 5
            at = first + _U32(buf, kind + 1)[0]
            value = buf[first:at].decode()
        else:
            value, at = _read_item(buf, kind)
        yield _Field(name, kind, at, value)


def _is_flat(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and all(isinstance(one, _UNCHANGEABLE) for one in value)


def short_text(buf: bytes, at: int) -> tuple[str, int]:
    """The short text at `at`, one that comes again and again, and where it ends."""
    end = at + 1 + buf[at]
    text = buf[at + 1 : end]
    return _names.get(text) or text_of(text), end


def text_of(text: bytes) -> str:
    """`text`, which will be remembered.

    Raises:
        UnicodeDecodeError: it is none.
    """
    name = text.decode()
    if len(_names) < _NAMES_KEPT:
        _names[text] = name
    return name
