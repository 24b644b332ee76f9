"""A task declared once, as a typed function without a body."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from celery import Signature
from celery.canvas import chunks, xmap, xstarmap
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

import shared.signatures
from shared import scope
from shared.errors import ContractError, InvalidArguments
from shared.topology import TASKS_EXCHANGE

P = ParamSpec("P")
R = TypeVar("R")


class Declaration(Generic[P, R]):
    """What a task takes and gives. Calling it checks the arguments and makes a Celery `Signature`.

    The signature carries its own routing, so any Celery app that is connected to the broker can publish it,
    and `.delay()`, `.apply_async()`, `|`, `group`, `chord` and `celery.chunks` work as for every signature.

    Attributes:
        name: the task's name, which is its routing key too.
        service: the name's first part: the service that implements the task.
        keeps_result: whether the result store keeps what the task returns. False spares a round trip to it at
            every call; a task in the header of a chord must keep its result.
    """

    def __init__(self, name: str, function: Callable[P, R], keeps_result: bool) -> None:
        self.name = name
        self.service = name.partition(".")[0]
        self.keeps_result = keeps_result
        self.function = function
        self.__doc__ = function.__doc__
        self._called = inspect.signature(function)
        self.parameters = self._called.parameters
        # Where each argument has just one place and one name, binding is a zip.
        self._simple = all(one.kind is one.POSITIONAL_OR_KEYWORD for one in self.parameters.values())
        hints = get_type_hints(function, include_extras=True)
        self.rest = next((one.name for one in self.parameters.values() if one.kind is one.VAR_KEYWORD), None)
        fields: dict[str, Any] = {
            one.name: (hints[one.name], ... if one.default is one.empty else one.default)
            for one in self.parameters.values()
        }
        if self.rest:
            # `**facts: Fact` takes any further names; their values have one type.
            self._rest_type = hints[self.rest]
            fields[self.rest] = (dict[str, self._rest_type], {})  # type: ignore[name-defined]
        self.arguments: type[BaseModel] = create_model(
            name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields
        )
        self.result: TypeAdapter[Any] = TypeAdapter(hints.get("return", Any))
        # As many tasks do.
        self._returns_nothing = hints.get("return", Any) is type(None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """A signature with all arguments given and checked.

        Raises:
            InvalidArguments: an argument is missing, unknown or refused by its type.
        """
        given = self._bind(args, kwargs)
        checked = self._validate(given)
        return self._signature((), self.flat(checked.model_dump(mode="json", include=set(given))))

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A partial signature: the canvas puts the results of what ran before in front of `args`.

        Keyword arguments are checked here, each by its own type; positional ones where the task runs, because only
        there their places are known.

        Raises:
            InvalidArguments: a keyword argument is unknown or refused by its type.
        """
        try:
            self._called.bind_partial(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"{self.name}: {error}") from None
        for key, value in kwargs.items():
            kwargs[key] = self._dump_one(key, value)
        return self._signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """As calling, but the canvas adds nothing to its arguments."""
        return self(*args, **kwargs).set(immutable=True)

    def map(self, items: Iterable[Any]) -> Signature:
        """One message that runs this task for each item, one after the other; its result is the list of theirs."""
        return xmap(self.s(), list(items))

    def starmap(self, items: Iterable[tuple[Any, ...]]) -> Signature:
        """As `map`; each item holds all positional arguments."""
        return xstarmap(self.s(), list(items))

    def chunks(self, items: Iterable[tuple[Any, ...]], size: int) -> Signature:
        """As `starmap`, `size` items a message; its result is a list of lists."""
        return chunks(self.s(), list(items), size)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Publish at once; gives Celery's `AsyncResult`."""
        return self(*args, **kwargs).apply_async()

    def check_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they arrived at a worker, converted to the declared types, defaults filled in.

        Raises:
            InvalidArguments: the publisher had another idea of this task.
        """
        checked = self._validate(self._bind(args, kwargs))
        arguments = {name: getattr(checked, name) for name in self.parameters}
        return self.flat(arguments) if self.rest else arguments

    def check(self, args: tuple[Any, ...] | list[Any], kwargs: Mapping[str, Any]) -> None:
        """Whether a call with these arguments is one of this task; what they become is not asked.

        Raises:
            InvalidArguments: it is not.
        """
        self._validate(dict(kwargs) if self._simple and not args else self._bind(tuple(args), kwargs))

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> frozenset[str]:
        """The parameters that these arguments fill; none of them where they do not fit at all."""
        try:
            return frozenset(self._called.bind_partial(*args, **kwargs).arguments)
        except TypeError:
            return frozenset()

    def dump_result(self, value: Any) -> Any:
        """What the task returned, as plain JSON values of the declared type."""
        if value is None and self._returns_nothing:
            return None
        return self.result.dump_python(self.result.validate_python(value), mode="json")

    def check_implementation(self, function: Callable[..., Any], *, bound: bool) -> None:
        """Raise ContractError unless `function` takes just the declared parameters (after the task, where `bound`)."""
        names = list(inspect.signature(function).parameters)[1 if bound else 0 :]
        if names != list(self.parameters):
            raise ContractError(
                f"{function.__module__}.{function.__qualname__} takes ({', '.join(names)}), but "
                f"{self.name} is declared with ({', '.join(self.parameters)}): make them the same"
            )

    def flat(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`arguments` as a call writes them: what `**rest` takes, beside the others.

        Raises:
            InvalidArguments: the rest has a name that is a parameter's own.
        """
        rest = arguments.get(self.rest, {}) if self.rest else {}
        if taken := rest.keys() & self.parameters.keys():
            raise InvalidArguments(f"{self.name}: {self.rest}: {min(taken)} is a parameter, give it beside the others")
        return {**{name: value for name, value in arguments.items() if name != self.rest}, **rest}

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if self._simple and not kwargs and len(args) == len(self.parameters):
            return dict(zip(self.parameters, args, strict=True))
        try:
            return dict(self._called.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise InvalidArguments(f"{self.name}: {error}") from None

    def _validate(self, arguments: dict[str, Any]) -> BaseModel:
        try:
            return self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise InvalidArguments(explain(self.name, error)) from None

    def _dump_one(self, name: str, value: Any) -> Any:
        if name in self.parameters and name != self.rest:
            adapter: TypeAdapter[Any] = TypeAdapter(self.arguments.model_fields[name].rebuild_annotation())
        else:
            adapter = TypeAdapter(self._rest_type)
        try:
            return adapter.dump_python(adapter.validate_python(value), mode="json")
        except ValidationError as error:
            raise InvalidArguments(explain(self.name, error, name)) from None

    def _signature(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature:
        return Signature(
            self.name,
            args=args,
            kwargs=kwargs,
            options={
                "exchange": TASKS_EXCHANGE,
                "exchange_type": "topic",
                "routing_key": self.name,
                "ignore_result": not self.keeps_result,
                **scope.pin(),
            },
        )

    def __repr__(self) -> str:
        return f"<task {self.name}({', '.join(self.parameters)})>"


def explain(task: str, error: ValidationError, argument: str | None = None) -> str:
    """One line that names the task, each refused argument, what was given and what is wanted."""
    complaints = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in ((argument,) if argument else ()) + problem["loc"])
        complaints.append(f"{where}: {problem['msg']} (got {problem['input']!r:.80})")
    return f"{task}: " + "; ".join(complaints)


_declared: dict[str, Declaration[Any, Any]] = {}


def signature(name: str, *, keeps_result: bool = False) -> Callable[[Callable[P, R]], Declaration[P, R]]:
    """Declare the task `name`, `<service>.<verb>`, by a function that has types and a docstring but no body."""

    def declare(function: Callable[P, R]) -> Declaration[P, R]:
        if name in _declared:
            raise ContractError(f"{name} is declared twice: give one of the two another name")
        declaration = _declared[name] = Declaration(name, function, keeps_result)
        return declaration

    return declare


def declarations(service: str | None = None) -> dict[str, Declaration[Any, Any]]:
    """Every declared task by its name, or those of one service."""
    _import_all()
    return {name: task for name, task in sorted(_declared.items()) if service in (None, task.service)}


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(shared.signatures.__path__, "shared.signatures."):
        importlib.import_module(module.name)
