"""The base of every task, and the bond between a declaration and its implementation."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from celery import Task as CeleryTask

from shared.app import App
from shared.signatures import Declaration
from shared.topology import EVERYONE

F = TypeVar("F", bound=Callable[..., Any])


class Task(CeleryTask):
    """A task that retries when the other side says, and routes each attempt anew."""

    abstract = True
    Request = "shared.dead_letters.request:Request"
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
        return signature


def implements(declaration: Declaration[..., Any], app: App, *, bind: bool = False, **options: Any) -> Callable[[F], F]:
    """Register a function as the implementation of a declared task of `app`.

    Arguments are checked and converted to the declared types on arrival, and the result to JSON values on its way
    out. With `bind` the function takes the task as its first argument. `options` are Celery's.

    Raises:
        ContractError: the parameters of the function are not the declared ones.
    """

    def register(function: F) -> F:
        declaration.check_implementation(function, bound=bind)

        @wraps(function)
        def run(task: Task, *args: Any, **kwargs: Any) -> Any:
            arguments = declaration.check_arguments(args, kwargs)
            result = function(task, **arguments) if bind else function(**arguments)
            return declaration.dump_result(result)

        return app.task(
            run,
            name=declaration.name,
            base=Task,
            bind=True,
            # Of this app alone; Celery would give it to every app of the process.
            shared=False,
            ignore_result=not declaration.keeps_result,
            **options,
        )

    return register
