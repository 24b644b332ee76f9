"""Whether one JSON Schema takes whatever another takes: for those that pydantic makes of annotations.

Where it cannot be told it says no: a change that looks harmful and is not costs a look, the other way round an outage.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

#: What says nothing of a value.
_REMARKS = frozenset("title description default examples deprecated $defs".split())
#: Limits: the keyword, and whether a value that the narrower schema sets is inside what the wider one sets.
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_STRUCTURE = frozenset(
    "type enum const anyOf oneOf properties required additionalProperties items prefixItems $ref".split()
)


def takes(wide: Schema, narrow: Schema) -> bool:
    """Whether every value that `narrow` takes is one that `wide` takes. `$defs` stand at the root of each."""
    return _Comparison(wide.get("$defs", {}), narrow.get("$defs", {})).takes(wide, narrow)


def closed(schema: Any) -> Any:
    """The schema of what a program writes that has this model: no name that the model has not.

    A model reads such names, and forgets them; so its schema allows them.
    """
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(inner.get("properties"), Mapping) else inner


class _Comparison:
    def __init__(self, wide_defs: Schema, narrow_defs: Schema) -> None:
        self._wide_defs = wide_defs
        self._narrow_defs = narrow_defs
        #: References that are being compared: a type that holds itself holds if nothing else speaks against it.
        self._assumed: set[tuple[str, str]] = set()

    def takes(self, wide: Schema, narrow: Schema) -> bool:
        pair = (str(wide.get("$ref")), str(narrow.get("$ref")))
        if "$ref" in wide and "$ref" in narrow:
            if pair in self._assumed:
                return True
            self._assumed.add(pair)
        wide, narrow = _resolved(wide, self._wide_defs), _resolved(narrow, self._narrow_defs)
        if _alternatives(narrow):
            return all(self.takes(wide, one) for one in _alternatives(narrow))
        if _alternatives(wide):
            # A value may be taken in part by one and in part by another: that is not looked for.
            return any(self.takes(one, narrow) for one in _alternatives(wide))
        if not _said(wide):
            return True
        return self._one_takes(wide, narrow)

    def _one_takes(self, wide: Schema, narrow: Schema) -> bool:
        listed = _listed(narrow)
        if _listed(wide) is not None:
            return listed is not None and all(any(_same(one, other) for other in _listed(wide) or ()) for one in listed)
        types, inner = _types(wide), _types(narrow)
        if listed is not None and not inner:
            inner = {_type_of(value) for value in listed}
        if (types and not inner) or inner - types - ({"integer"} if "number" in types else set()):
            return False
        return (
            all(_inside(wide, narrow, key, least=True) for key in _LEAST)
            and all(_inside(wide, narrow, key, least=False) for key in _MOST)
            and all(narrow.get(key) == value for key, value in wide.items() if _must_be_equal(key))
            and self._object_takes(wide, narrow)
            and self._array_takes(wide, narrow)
        )

    def _object_takes(self, wide: Schema, narrow: Schema) -> bool:
        if "object" not in _types(narrow):
            return True
        known, given = wide.get("properties", {}), narrow.get("properties", {})
        if not set(wide.get("required", ())) <= set(narrow.get("required", ())):
            return False
        others = wide.get("additionalProperties", True)
        for name, schema in given.items():
            beside = others if isinstance(others, Mapping) else {}
            if name not in known and others is False:
                return False
            if not self.takes(known.get(name, beside), schema):
                return False
        extra = narrow.get("additionalProperties", True)
        if extra is False:
            return True
        unnamed = extra if isinstance(extra, Mapping) else {}
        # What the narrower takes without a name may have one that the wider gives a type.
        return others is not False and all(
            self.takes(schema, unnamed)
            for schema in (
                others if isinstance(others, Mapping) else {},
                *(known[name] for name in known.keys() - given.keys()),
            )
        )

    def _array_takes(self, wide: Schema, narrow: Schema) -> bool:
        if "array" not in _types(narrow):
            return True
        if wide.get("prefixItems") or narrow.get("prefixItems"):
            first, second = wide.get("prefixItems", []), narrow.get("prefixItems", [])
            if len(first) != len(second):
                return False
            if not all(self.takes(one, other) for one, other in zip(first, second, strict=True)):
                return False
        return self.takes(wide.get("items", {}), narrow.get("items", {}))


def _resolved(schema: Schema, defs: Schema) -> Schema:
    while "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**defs[schema["$ref"].removeprefix("#/$defs/")], **beside}
    return schema


def _alternatives(schema: Schema) -> list[Schema]:
    return list(schema.get("anyOf") or schema.get("oneOf") or ())


def _said(schema: Schema) -> bool:
    return bool(schema.keys() - _REMARKS)


def _types(schema: Schema) -> set[str]:
    told = schema.get("type", [])
    return {told} if isinstance(told, str) else set(told)


def _listed(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _must_be_equal(key: str) -> bool:
    return key not in _REMARKS and key not in _STRUCTURE and key not in _LEAST and key not in _MOST


def _inside(wide: Schema, narrow: Schema, key: str, *, least: bool) -> bool:
    if key not in wide:
        return True
    if key not in narrow:
        listed = _listed(narrow)
        return (
            listed is not None and not key.endswith(("Items", "Properties")) and _all_inside(listed, wide, key, least)
        )
    return bool(narrow[key] >= wide[key] if least else narrow[key] <= wide[key])


def _all_inside(listed: list[Any], wide: Schema, key: str, least: bool) -> bool:
    sizes = [len(one) if key.endswith("Length") and isinstance(one, str) else one for one in listed]
    if not all(isinstance(size, int | float) for size in sizes):
        return False
    if key.startswith("exclusive"):
        return all(size > wide[key] if least else size < wide[key] for size in sizes)
    return all(size >= wide[key] if least else size <= wide[key] for size in sizes)
