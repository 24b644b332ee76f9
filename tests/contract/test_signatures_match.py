"""What is declared has an implementation, and what is implemented was declared."""

import inspect
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from shared.signatures import declarations
from shared.spec import EVERYONE, ServiceSpec
from shared.topology import PUBLISHERS, SERVICES

ROOT = Path(__file__).parents[2]

each_service = pytest.mark.parametrize("spec", SERVICES, ids=lambda spec: spec.name)

#: Run in a process of its own, because a service's app becomes the current one of its process.
_TELL = """
import importlib, inspect, json, sys
app = importlib.import_module(sys.argv[1]).app
app.loader.import_default_modules()
app.finalize()
def parameters(task):
    function = getattr(task, "_orig_run", task.run)
    return list(inspect.signature(inspect.unwrap(function)).parameters)
print(json.dumps({
    "service": app.spec.name,
    "tasks": {name: {
        "parameters": parameters(task),
        "ignores_result": bool(task.ignore_result),
        "base": [f"{base.__module__}.{base.__qualname__}" for base in type(task).__mro__],
        "max_retries": task.max_retries,
        "module": task.__module__,
    } for name, task in app.tasks.items() if not name.startswith(("celery.", "all."))},
    "everyones": sorted(name for name in app.tasks if name.startswith("all.")),
}))
"""


@cache
def app_of(service: str) -> dict[str, Any]:
    """What the service's app has registered, told by a process that imported just that app."""
    with TemporaryDirectory() as folder:
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LOCAL_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", _TELL, f"services.{service}.app"],
            env=environ,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@each_service
def test_a_services_app_is_the_services(spec: ServiceSpec) -> None:
    assert app_of(spec.name)["service"] == spec.name


@each_service
def test_every_declared_task_has_an_implementation(spec: ServiceSpec) -> None:
    missing = declarations(spec.name).keys() - app_of(spec.name)["tasks"].keys()
    assert not missing, f"implement them in services/{spec.name}/tasks.py, or drop their declarations"


@each_service
def test_every_implementation_was_declared(spec: ServiceSpec) -> None:
    unknown = app_of(spec.name)["tasks"].keys() - declarations(spec.name).keys()
    assert not unknown, f"declare them in shared/signatures/{spec.name}.py, and use @implements"


@each_service
def test_every_service_implements_the_tasks_of_everyone(spec: ServiceSpec) -> None:
    assert app_of(spec.name)["everyones"] == list(declarations(EVERYONE))


@each_service
def test_a_service_declares_something(spec: ServiceSpec) -> None:
    assert declarations(spec.name)


@each_service
def test_an_implementation_takes_what_was_declared(spec: ServiceSpec) -> None:
    for name, task in declarations(spec.name).items():
        taken = app_of(spec.name)["tasks"][name]["parameters"]
        # A bound task takes itself first.
        assert list(task.parameters) in (taken, taken[1:]), name


@each_service
def test_an_implementation_keeps_its_result_as_declared(spec: ServiceSpec) -> None:
    for name, task in declarations(spec.name).items():
        assert app_of(spec.name)["tasks"][name]["ignores_result"] is not task.keeps_result, name


@each_service
def test_every_task_stands_on_the_common_base_and_gives_up_some_day(spec: ServiceSpec) -> None:
    for name, task in app_of(spec.name)["tasks"].items():
        assert "shared.tasks.Task" in task["base"], name
        assert task["max_retries"] is not None, name
        assert task["module"] == f"services.{spec.name}.tasks", name


def test_every_declaration_belongs_to_a_service() -> None:
    owners = {task.service for task in declarations().values()}
    assert owners <= {EVERYONE, *(spec.name for spec in SERVICES)}


def test_a_declaration_stands_in_the_module_of_its_service_under_its_own_name() -> None:
    for name, task in declarations().items():
        module = inspect.getmodule(task.function)
        assert module and module.__name__ == f"shared.signatures.{task.service}", name
        assert getattr(module, name.split(".")[1]) is task, name


def test_every_scheduled_task_is_declared_and_takes_its_arguments() -> None:
    for spec in SERVICES:
        for schedule in spec.schedules:
            declarations(spec.name)[schedule.task](**schedule.kwargs)


@each_service
def test_a_service_has_all_its_parts(spec: ServiceSpec) -> None:
    parts = (
        f"services/{spec.name}/__init__.py",
        f"services/{spec.name}/app.py",
        f"services/{spec.name}/tasks.py",
        f"shared/signatures/{spec.name}.py",
        f"requirements/{spec.name}.in",
        f"requirements/{spec.name}.txt",
    )
    assert [part for part in parts if not (ROOT / part).is_file()] == []


def test_every_folder_of_services_is_in_the_topology() -> None:
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__init__.py")}
    assert folders == {spec.name for spec in SERVICES} | {spec.name for spec in PUBLISHERS}


def test_publishers_need_no_workers_code() -> None:
    # Given a process that publishes a task of every service
    code = """
import sys
from shared.signatures import declarations
assert declarations()
print([name for name in sys.modules if name.partition(".")[0] == "services"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30
    )
    # Then it has loaded no service
    assert done.stdout == "[]\n", done.stderr
