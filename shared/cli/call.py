"""`celery -A shared.app call TASK`: hand in any task by its name, and have its answer."""

import json
import sys
from difflib import get_close_matches
from inspect import Parameter
from typing import TYPE_CHECKING, Any

import click
from celery import Signature
from click.shell_completion import CompletionItem

from shared.cli import ExitCode
from shared.errors import InvalidArguments

if TYPE_CHECKING:
    from shared.signatures import Declaration

#: As people name it: what is completed are its tasks.
OUR_APP = "shared.app"
#: Further options of publishing.
_WHEN = ("countdown", "eta", "expires")


def _names(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    from shared.signatures import declarations

    if context.find_root().params.get("app") != OUR_APP:
        return []
    return [
        CompletionItem(name, help=(task.__doc__ or "").partition("\n")[0])
        for name, task in declarations().items()
        if name.startswith(typed)
    ]


@click.command()
@click.argument("task", shell_complete=_names)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("-a", "--args", "args", default="[]", help="a JSON list, of what is given by place")
@click.option("-k", "--kwargs", default="{}", help="a JSON object, of what is given by name")
@click.option("--wait", is_flag=True, help="until the task is done; shows how far it is, and prints its result")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=300.0, show_default=True, help="seconds to wait"
)
@click.option("--countdown", type=click.FloatRange(min=0), help="seconds until it may run")
@click.option("--eta", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S"]), help="when it may run; UTC")
@click.option("--expires", type=click.FloatRange(min=0, min_open=True), help="seconds after which it is not to run")
@click.option("--undeclared", is_flag=True, help="also a task that is not known here; nothing is checked then")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def call(
    context: click.Context,
    /,
    task: str,
    arguments: tuple[str, ...],
    args: str,
    kwargs: str,
    wait: bool,
    timeout: float,
    undeclared: bool,
    form: str,
    **when: Any,
) -> None:
    """Hand in the task TASK, its arguments checked first.

    A VALUE is JSON where it can be read so and the task takes no text there: `call calculator.add a=1 b=2 --wait`.

    Exit status: 0 done, 1 the task failed, 2 an argument is wrong, 3 the broker or the result store is away,
    4 nobody answered within --timeout.
    """
    declaration = _declared(task, undeclared)
    placed = _json(args, list, "--args", "a list: [1, 2]")
    named = _json(kwargs, dict, "--kwargs", 'an object: {"a": 1}') | dict(_pair(declaration, one) for one in arguments)
    signature = _signature(declaration, task, placed, named)
    signature.set(**{name: when[name] for name in _WHEN if when[name] is not None})
    app = context.obj.app
    if not wait:
        click.echo(_handed_in(signature))
        return
    result = _answer(app, task.partition(".")[0], signature, timeout)
    # A text is printed as it is: it may be meant for people, or for the next command.
    plain = form == "text" and isinstance(result, str)
    click.echo(result if plain else json.dumps(result, indent=2, ensure_ascii=False))


def _declared(task: str, undeclared: bool) -> "Declaration[..., Any] | None":
    from shared.signatures import declarations

    known = declarations()
    if task in known or undeclared:
        return known.get(task)
    near = get_close_matches(task, known, n=3) or sorted(known)
    raise click.UsageError(f"there is no task {task!r}: did you mean {' or '.join(near)}? (--undeclared takes any)")


def _signature(
    declaration: "Declaration[..., Any] | None", task: str, args: list[Any], kwargs: dict[str, Any]
) -> Signature:
    if declaration is None:
        return Signature(task, args=args, kwargs=kwargs)
    try:
        return declaration(*args, **kwargs)
    except InvalidArguments as error:
        takes = ", ".join(map(_parameter, declaration.parameters.values())) or "nothing"
        raise click.UsageError(f"{error}\nIt takes: {takes}") from None


def _parameter(parameter: Parameter) -> str:
    return parameter.name if parameter.default is Parameter.empty else f"{parameter.name}={parameter.default!r}"


def _answer(app: Any, service: str, signature: Signature, timeout: float) -> Any:
    from shared.cli import follow

    with follow.worker(app, service):
        return follow.run(app, signature.set(ignore_result=False), {}, timeout)


def _handed_in(signature: Signature) -> str:
    from kombu.exceptions import OperationalError

    try:
        return str(signature.apply_async().id)
    except (OperationalError, OSError, TimeoutError) as error:
        click.echo(f"the broker does not take the task: {error}", err=True)
        sys.exit(ExitCode.UNREACHABLE)


def _json(text: str, kind: type, option: str, wanted: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"this is no JSON: {error}", param_hint=option) from None
    if not isinstance(value, kind):
        raise click.BadParameter(f"must be {wanted}", param_hint=option)
    return value


def _pair(declaration: "Declaration[..., Any] | None", text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name.isidentifier():
        raise click.UsageError(f"{text!r} is no argument: write it as name=value")
    field = None if declaration is None else declaration.arguments.model_fields.get(name)
    if field is not None and field.annotation is str:
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def complete() -> None:
    """Have the shell complete the names of our tasks.

    While it completes, Celery loads no app, and so its own command is still there: see shared/cli/install.py.
    """
    builtin = getattr(sys.modules.get("celery.bin.call"), "call", None)
    for parameter in getattr(builtin, "params", ()):
        if parameter.name == "name":
            parameter._custom_shell_complete = _names


complete()
