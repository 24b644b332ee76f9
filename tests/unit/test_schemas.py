"""Whether one schema takes all that another takes: never a yes that is none."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shared.schemas import takes

SMALL = st.integers(-3, 3)
VALUES = st.recursive(
    st.none() | st.booleans() | SMALL | st.sampled_from([0.5, 2.5]) | st.sampled_from(["", "a", "ab", "abc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


def _some(**keywords: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


PLAIN = st.one_of(
    st.just({}),
    st.builds(dict, type=st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])),
    st.builds(lambda more: {"type": "integer", **more}, _some(minimum=SMALL, maximum=SMALL)),
    st.builds(lambda more: {"type": "number", **more}, _some(exclusiveMinimum=SMALL, maximum=SMALL)),
    st.builds(lambda more: {"type": "string", **more}, _some(minLength=SMALL.map(abs), maxLength=SMALL.map(abs))),
    st.builds(lambda values: {"enum": values}, st.lists(SMALL | st.sampled_from(["a", "ab"]), min_size=1, max_size=3)),
    st.builds(lambda value: {"const": value, "type": "string"}, st.sampled_from(["a", "ab"])),
)


def _deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    return st.one_of(
        st.builds(lambda several: {"anyOf": several}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda more: {"type": "array", **more}, _some(items=inner, maxItems=SMALL.map(abs))),
        st.builds(
            lambda more, names: {"type": "object", "required": sorted(names), **more},
            _some(properties=properties, additionalProperties=st.booleans() | inner),
            st.sets(st.sampled_from("ab")),
        ),
    )


SCHEMAS = st.recursive(PLAIN, _deeper, max_leaves=4)


@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
@given(wide=SCHEMAS, narrow=SCHEMAS, values=st.lists(VALUES, min_size=1, max_size=20))
def test_a_yes_holds_for_every_value(wide: dict[str, Any], narrow: dict[str, Any], values: list[Any]) -> None:
    if takes(wide, narrow):
        for value in values:
            if Draft202012Validator(narrow).is_valid(value):
                assert Draft202012Validator(wide).is_valid(value), value


@settings(max_examples=200, deadline=None)
@given(schema=SCHEMAS)
def test_a_schema_takes_what_it_takes(schema: dict[str, Any]) -> None:
    assert takes(schema, schema)
    assert takes({}, schema)
    assert takes({"anyOf": [{"type": "null"}, schema]}, schema)


TREE = {"$defs": {"T": {"type": "object", "properties": {"child": {"$ref": "#/$defs/T"}}}}, "$ref": "#/$defs/T"}


@pytest.mark.parametrize(
    ("wide", "narrow", "told"),
    [
        ({"type": "number"}, {"type": "integer"}, True),
        ({"type": "integer"}, {"type": "number"}, False),
        ({"type": "string"}, {"type": "string", "maxLength": 5}, True),
        ({"type": "string", "maxLength": 5}, {"type": "string"}, False),
        ({"type": "string"}, {"enum": ["a", "b"]}, True),
        ({"enum": ["a", "b"]}, {"const": "a"}, True),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, False),
        ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^a"}, True),
        ({"type": "string", "format": "date"}, {"type": "string"}, False),
        ({"type": "array", "items": {"type": "number"}}, {"type": "array", "items": {"type": "integer"}}, True),
        (TREE, TREE, True),
        ({"title": "new words", "type": "null"}, {"title": "words", "type": "null"}, True),
    ],
)
def test_what_pydantic_writes_is_compared(wide: dict[str, Any], narrow: dict[str, Any], told: bool) -> None:
    assert takes(wide, narrow) is told
