"""Headers that are read by their layout are those that py-amqp reads, and nobody else's."""

import copy
from struct import pack
from typing import Any

import pytest
from amqp.serialization import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from shared.amqp_headers import LARGEST, LENGTHS, LESSONS, Layout, Layouts
from tests.unit.test_amqp_frames import keys, values

#: What a message of ours has, in short.
OURS: dict[str, Any] = {
    "task": "calculator.add",
    "id": "0",
    "retries": 0,
    "eta": None,
    "ignore_result": True,
    "stamps": {},
    "timelimit": [45, 30],
    "nested": {"of": [1, {"two": 3.5}]},
}


def encoded(table: dict[str, Any]) -> bytes:
    return bytes(dumps("F", (table,)))


def flat(value: Any) -> list[Any]:
    """The values in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for part in inner for one in flat(part)] if inner else [value] if value is not None else []


def read(layouts: Layouts, table: dict[str, Any]) -> tuple[dict[str, Any], Layout | None]:
    """One table in the midst of something else, read by both."""
    buf = b"before" + encoded(table) + b"behind"
    try:
        found, end, layout = layouts.read(buf, 6)
    except UnicodeDecodeError:
        # Bytes; whoever called reads such a table by the book.
        assert any(isinstance(one, bytes) for one in flat(table))
        return table, None
    assert found == loads("F", buf, 6)[0][0] and list(found) == list(loads("F", buf, 6)[0][0])
    assert end == len(buf) - 6
    return found, layout


@given(st.data())
def test_tables_that_look_alike_are_read_as_py_amqp_reads_them(data: st.DataObject) -> None:
    # Given a table, and others of which some values are others, mostly of the same length
    first = data.draw(st.dictionaries(keys, values, max_size=6))
    layouts = Layouts()
    for _ in range(data.draw(st.integers(1, 12))):
        table = copy.deepcopy(first)
        for name in data.draw(st.sets(st.sampled_from(sorted(first)), max_size=3)) if first else ():
            value = table[name]
            if isinstance(value, str):
                size = len(value.encode())
                table[name] = data.draw(st.text("ab", min_size=size, max_size=size) | st.just("é" * (size // 2)))
            elif type(value) is int:
                table[name] = data.draw(st.integers(-3, 3))
            else:
                table[name] = data.draw(values)
        # Then each of them is read as it is
        read(layouts, table)


def test_a_layout_is_learned_and_says_what_varies() -> None:
    layouts = Layouts()
    # Given two messages of one publisher, whose ids differ
    assert [read(layouts, {**OURS, "id": id})[1] for id in "abc"] == [None] * 3
    # When more come
    _, layout = read(layouts, {**OURS, "id": "d"})
    # Then they have one layout, whoever reads
    assert layout is not None and layout.varying == {"id"}
    assert read(layouts, {**OURS, "id": "e"})[1] is layout
    # And a number of another value makes another, as long as there are few
    for id in "fgh":
        read(layouts, {**OURS, "id": id, "retries": 1})
    _, other = read(layouts, {**OURS, "id": "i", "retries": 1})
    assert other is not None and other is not layout and other.varying == {"id"}
    assert read(layouts, {**OURS, "id": "j"})[1] is layout


def test_a_number_that_is_always_another_varies() -> None:
    layouts = Layouts()
    found = [read(layouts, {**OURS, "group_index": number})[1] for number in range(30)]
    assert found[-1] is not None and "group_index" in found[-1].varying


def test_who_changes_a_table_changes_no_other() -> None:
    layouts = Layouts()
    for id in "abcdefgh":
        found, _ = read(layouts, {**OURS, "id": id})
        found["stamps"]["mine"] = found["timelimit"][0] = found["nested"]["of"][1]["two"] = "changed"


def test_what_is_kept_is_bounded() -> None:
    layouts = Layouts()
    # Given lengths without end, tables without end that have nothing in common, and one that is too large
    for size in range(3 * LENGTHS):
        read(layouts, {"text": "x" * size})
    for number in range(3 * LESSONS):
        read(layouts, {f"{number:04}": 0})
    for _ in range(4):
        assert read(layouts, {"text": "x" * LARGEST})[1] is None
    # Then little is kept of them
    assert len(layouts._known) <= LENGTHS and max(layouts._lessons.values()) <= LESSONS


def test_a_text_that_is_none_is_told() -> None:
    layouts = Layouts()
    for id in "abcd":
        read(layouts, {"id": id})
    table = b"\x02idS\x00\x00\x00\x01\xff"
    with pytest.raises(UnicodeDecodeError):
        layouts.read(pack(">I", len(table)) + table, 0)
