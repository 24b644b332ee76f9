"""The base of every task, and the bond between a declaration and its implementation."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from celery import Task as CeleryTask
from celery.canvas import maybe_signature
from celery.utils.log import get_task_logger

from shared import scope
from shared.app import App
from shared.errors import ContractError
from shared.signatures import Declaration
from shared.spec import EVERYONE
from shared.trace import facts

F = TypeVar("F", bound=Callable[..., Any])
AnyTask = Declaration[..., Any]
Arguments = tuple[Any, ...]


class Task(CeleryTask):
    """A task that retries when the other side says, routes each attempt anew, and keeps its caller's scope."""

    abstract = True
    Request = "shared.worker_request:Request"
    #: Characters of a result in the log; a page of repositories says nothing to whoever reads it.
    resultrepr_maxsize = 200
    #: Bounded, with jitter so that those who failed together do not come back together.
    max_retries = 5
    retry_backoff = True
    retry_backoff_max = 300
    retry_jitter = True

    def retry(
        self, *args: Any, exc: BaseException | None = None, countdown: float | None = None, **options: Any
    ) -> Any:
        """As Celery's; an exception that names the time of the next attempt (`retry_after`, seconds) is obeyed."""
        after = getattr(exc, "retry_after", None)
        if after is not None:
            countdown = max(after, countdown or 0)
        return super().retry(*args, exc=exc, countdown=countdown, **options)

    def signature_from_request(self, request: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The signature of the next attempt.

        Celery takes exchange and routing key from the delivery. After a delay these are the delay's own; and a task
        that reached every service (`all.ping`) must be retried here alone. So each attempt is routed by its name, and
        one of a task for everyone by the name of this service in front of it.
        """
        signature = super().signature_from_request(request, *args, **kwargs)
        for option in ("exchange", "routing_key"):
            signature.options.pop(option, None)
        if self.name.startswith(f"{EVERYONE}.") and self.app.spec is not None:
            signature.options["routing_key"] = f"{self.app.spec.name}.{self.name}"
        # Also where the task raised inside a scope of its own.
        signature.options.pop(scope.HEADER, None)
        headers = signature.options.get("headers") or {}
        signature.options["headers"] = {**headers, scope.HEADER: headers.get(scope.HEADER, {})}
        return signature

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Any:
        """As Celery's; it keeps the scope in which it is made."""
        made = super().signature(args, *starargs, **starkwargs)
        for name, value in scope.pin().items():
            made.options.setdefault(name, value)
        return made

    def replace(self, sig: Any) -> Any:
        """As Celery's. What follows this task keeps this task's scope, also where `sig` was made in another one."""
        mine, in_force = scope.of(self.request), scope.current()
        if in_force != mine:
            sig = maybe_signature(scope.stamp(sig, in_force), app=self.app)
        with scope.exactly(mine):
            return super().replace(sig)

    def complete(
        self, declaration: Declaration[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The keyword arguments with which the task is to run, before they are checked."""
        return kwargs


class ScopedTask(Task):
    """A task that finds some of its arguments in its caller's scope.

    Attributes:
        scope_args: parameters that the scope gives where the caller does not. An explicit argument always wins.
    """

    abstract = True
    scope_args: tuple[str, ...] = ()

    def complete(
        self, declaration: Declaration[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """`kwargs`, and from the scope those of `scope_args` that the caller left out."""
        given = declaration.given(args, kwargs)
        found = {name: value for name, value in scope.current().items() if name in self.scope_args}
        return {**{name: value for name, value in found.items() if name not in given}, **kwargs}


class LoggingTask(Task):
    """A task that writes to its own log, `TASK_LOG_DIR/<name>.log`, and to the worker's."""

    abstract = True

    def log_msg(self, message: str, *args: Any, level: int = logging.INFO) -> None:
        """Log `message % args`."""
        get_task_logger(self.name).log(level, message, *args)


def implements(
    declaration: AnyTask,
    app: App,
    *,
    bind: bool = False,
    base: type[Task] = Task,
    fast_lane: bool = False,
    **options: Any,
) -> Callable[[F], F]:
    """Register a function as the implementation of a declared task of `app`.

    Arguments are checked and converted to the declared types on arrival, and the result to JSON values on its way
    out. With `bind` the function takes the task as its first argument. `base` is the class of the task, `Task` or one
    that adds to it; `options` are Celery's, and the attributes of `base`. `fast_lane` is for small idempotent tasks: a
    worker that is killed may run again as many of them as it may prefetch.

    Raises:
        ContractError: the parameters of the function are not the declared ones, or one of `scope_args` is none of them.
    """
    if not issubclass(base, Task):
        raise ContractError(f"{declaration.name}: base must stand on shared.tasks.Task, but {base!r} does not")
    unknown = set(options.get("scope_args", getattr(base, "scope_args", ()))) - declaration.parameters.keys()
    if unknown:
        raise ContractError(
            f"{declaration.name}: scope_args names {', '.join(sorted(unknown))}, but its parameters are "
            f"({', '.join(declaration.parameters)})"
        )

    if fast_lane:
        options["Strategy"] = "shared.fast_lane:strategy"

    def register(function: F) -> F:
        declaration.check_implementation(function, bound=bind)

        @wraps(function)
        def run(task: Task, *args: Any, **kwargs: Any) -> Any:
            request = task.request
            scope.of(request)
            facts.begin(request)
            arguments = declaration.check_arguments(args, task.complete(declaration, args, kwargs))
            result = function(task, **arguments) if bind else function(**arguments)
            return declaration.dump_result(result)

        return app.task(
            run,
            name=declaration.name,
            base=base,
            bind=True,
            # Of this app alone; Celery would give it to every app of the process.
            shared=False,
            ignore_result=not declaration.keeps_result,
            **options,
        )

    return register
