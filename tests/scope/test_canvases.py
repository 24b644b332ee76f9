"""Whatever the canvas, each of its leaves sees the scope in force where it was built."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from celery import Signature, chain, chord, group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.scope import current, scope
from tests.scope import worker
from tests.scope.conftest import Telling

Scope = dict[str, Any]

SCOPES = st.fixed_dictionaries(
    {}, optional={"locale": st.sampled_from(["fr", "kk", "ja"]), "scenario_id": st.integers(0, 3)}
)


@dataclass(frozen=True)
class Plan:
    """A canvas to build: its kind, the scope that is set around its building, and what it is built of."""

    kind: str
    scope: Scope
    parts: tuple["Plan", ...] = ()


def _node(parts: st.SearchStrategy[Plan]) -> st.SearchStrategy[Plan]:
    some = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return st.builds(Plan, st.sampled_from(["chain", "group", "chord", "link"]), SCOPES, some)


LEAVES = st.builds(Plan, st.sampled_from(["leaf", "leaf", "map", "starmap", "chunks"]), SCOPES)
PLANS = st.recursive(LEAVES, _node, max_leaves=6)


class Builder:
    """Builds canvases, and notes which scope was in force where each leaf was."""

    def __init__(self) -> None:
        self.expected: dict[str, Scope] = {}

    def build(self, plan: Plan) -> Signature:
        """The canvas of `plan`, built inside its scopes."""
        with scope(**plan.scope):
            match plan.kind:
                case "leaf":
                    return self._leaf()
                case "map":
                    return worker.leaf.map([self._label(), self._label()])
                case "starmap":
                    return worker.leaf.starmap([(self._label(),), (self._label(),)])
                case "chunks":
                    return worker.leaf.chunks([(self._label(),), (self._label(),), (self._label(),)], 2).group()
            parts = [self.build(part) for part in plan.parts]
            match plan.kind:
                case "chain":
                    return chain(*parts)
                case "group":
                    return group(parts)
                case "chord":
                    return chord(group(parts), self._leaf())
                case _:
                    linked = self._leaf()
                    # A group as a callback loses the leaves of its own groups in Celery itself.
                    linked.link(self._leaf())
                    return chain(linked, *parts)

    def publish(self, canvas: Signature) -> None:
        """Publish in the scope in force, which those leaves take that were built in none."""
        for label, built in self.expected.items():
            self.expected[label] = built or current()
        canvas.apply_async()

    def _leaf(self) -> Signature:
        return worker.leaf.si(self._label())

    def _label(self) -> str:
        label = str(uuid4())
        self.expected[label] = current()
        return label


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(PLANS, SCOPES), min_size=1, max_size=4))
def test_every_leaf_sees_the_scope_in_force_where_its_canvas_was_built(
    house: Telling, canvases: list[tuple[Plan, Scope]]
) -> None:
    # Given canvases of every shape, whose parts were built in scopes of their own
    expected: dict[str, Scope] = {}
    for plan, published_in in canvases:
        builder = Builder()
        canvas = builder.build(plan)
        # When each is published in yet another scope
        with scope(**published_in):
            builder.publish(canvas)
        expected |= builder.expected

    # Then every leaf saw the scope in which it was built, or, built in none, in which it was published
    assert house.scopes(expected) == expected
    # And nothing of it is left here
    assert current() == {}
