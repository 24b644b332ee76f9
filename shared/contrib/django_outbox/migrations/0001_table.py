"""Makes the table, and takes it away."""

from typing import Any, ClassVar

from django.db import migrations

from shared.outbox import create_table
from shared.outbox.table import TABLE


def _create(apps: Any, editor: Any) -> None:
    create_table(editor.connection)


def _drop(apps: Any, editor: Any) -> None:
    editor.execute(f"DROP TABLE {TABLE}")


class Migration(migrations.Migration):
    """The first, and so far the only one."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Any]] = [migrations.RunPython(_create, _drop)]
