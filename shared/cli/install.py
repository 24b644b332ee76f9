"""Commands of ours in the place of Celery's own of the same name."""

import sys

import click

from shared.cli.call import call
from shared.cli.report import report


def install() -> None:
    """Put `call` and `report` in the place of Celery's own; its `report` remains as `bugreport`.

    Celery adds its own commands after the plug-ins, and resolves a command's name before it loads the app: so its
    command object is changed in place, when `celery -A shared.app` loads the app.
    """
    for ours in (call, report):
        builtin = getattr(sys.modules.get("celery.bin.celery"), ours.name or "", None)
        if isinstance(builtin, click.Command):
            builtin.callback, builtin.params, builtin.help = ours.callback, list(ours.params), ours.help
