"""The repository's files: a service's own are written from templates, all others follow by their commands."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scaffold.options import Options
from shared.errors import Error
from shared.topology import PUBLISHERS, SERVICES, service

ROOT = Path(__file__).resolve().parents[1]
#: What a service is written in, by template.
OWN = {
    "spec.py.j2": "shared/specs/{name}.py",
    "signatures.py.j2": "shared/signatures/{name}.py",
    "package.py.j2": "services/{name}/__init__.py",
    "app.py.j2": "services/{name}/app.py",
    "tasks.py.j2": "services/{name}/tasks.py",
    "requirements.in.j2": "requirements/{name}.in",
    "test.py.j2": "tests/services/test_{name}.py",
}
#: Folders in which anything is written or follows.
TOUCHED = ("shared/specs", "shared/signatures", "services", "requirements", "tests/services", "compose", "k8s")
#: Prints the paths of the files that follow from the topology, as it is in the files now.
_LIST = "from shared.render.files import FILES; print(*(file.path for file in FILES), sep='\\n')"


class Refused(Error):
    """The repository is not as it would have to be. Nothing was changed."""


def add(options: Options) -> list[Path]:
    """Write the service; gives the paths of its own files.

    Raises:
        Refused: one of them is there already, or a command that makes what follows failed; then all is as it was.
    """
    name = options.spec.name
    own = {Path(place.format(name=name)): template for template, place in OWN.items()}
    for path in own:
        if (ROOT / path).exists():
            raise Refused(f"{path} is there already: choose another name, or remove it first")
    with _whole_or_not_at_all():
        for path, template in own.items():
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(_text(template, options))
        _run(sys.executable, "-m", "ruff", "format", "--quiet", *(str(path) for path in own if path.suffix == ".py"))
        _follow()
        if options.packages:
            _run(str(ROOT / "requirements/lock"), ONLY=name)
        else:
            # It needs what every worker does: no index has to be asked.
            shutil.copyfile(ROOT / "requirements/worker.txt", ROOT / f"requirements/{name}.txt")
    return [*own, Path(f"requirements/{name}.txt")]


def remove(name: str, *, force: bool = False) -> list[Path]:
    """Take the service out of the repository; gives the paths that are gone.

    Raises:
        TopologyError: there is no such service.
        Refused: another one needs it, or work would be lost that is nowhere else.
    """
    options = Options(service(name), _packages(name))
    if needed := _needed_by(name):
        raise Refused(f"service {name!r} is needed by {', '.join(needed)}: change that first")
    mine = [path for path in _files() if _is_of(path, name)]
    if not force and (lost := _only_here(mine, options)):
        raise Refused(f"git does not have {', '.join(lost)} as it stands: commit it, or say FORCE=1")
    with _whole_or_not_at_all():
        before = _listed()
        for path in mine:
            (ROOT / path).unlink()
        _follow()
        orphans = sorted(set(before) - set(_listed()))
        for path in orphans:
            (ROOT / path).unlink(missing_ok=True)
        if options.packages:
            # Of the developer's environment alone: what no service needs any more goes.
            _run(str(ROOT / "requirements/lock"), ONLY="dev")
    _drop_empty({path.parent for path in (*mine, *orphans)})
    return [*mine, *orphans]


def _text(template: str, options: Options) -> str:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "template"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["python"] = repr
    return templates.get_template(template).render(spec=options.spec, name=options.spec.name, packages=options.packages)


def _packages(name: str) -> tuple[str, ...]:
    lines = (ROOT / f"requirements/{name}.in").read_text().splitlines()
    return tuple(line for line in lines if line and not line.startswith(("#", "-r ")))


def _is_of(path: Path, name: str) -> bool:
    own = {Path(place.format(name=name)) for place in OWN.values()} | {Path(f"requirements/{name}.txt")}
    return path in own or path.parts[:2] == ("services", name)


def _needed_by(name: str) -> list[str]:
    callers = [f"service {spec.name!r}" for spec in SERVICES if name in spec.calls and spec.name != name]
    callers += [f"publisher {spec.name!r}" for spec in PUBLISHERS if name in spec.calls]
    module = f"shared.signatures.{name}"
    for folder in ("services", "shared", "examples", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not _is_of(path.relative_to(ROOT), name) and module in _imports(path):
                callers.append(str(path.relative_to(ROOT)))
    return callers


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _only_here(paths: list[Path], options: Options) -> list[str]:
    """Those of `paths` whose content git's last commit has not, and that no template gives."""
    name = options.spec.name
    made = {Path(place.format(name=name)): template for template, place in OWN.items()}
    told = _run("git", "status", "--porcelain", "--untracked-files=all", "-z", "--", *map(str, paths)).split("\0")
    changed = {Path(entry[3:]) for entry in told if entry}
    untouched = {path for path, template in made.items() if _code(_text(template, options)) == _code(_read(path))}
    return sorted(map(str, changed - untouched - {Path(f"requirements/{name}.txt")}))


def _read(path: Path) -> str:
    return (ROOT / path).read_text() if (ROOT / path).exists() else ""


def _code(text: str) -> str:
    """What it says, however it is laid out; where it is no Python, as it is."""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return text


def _follow() -> None:
    """Every file that follows from the topology, which a process of its own reads as it is now."""
    _run(sys.executable, "-m", "celery", "-A", "shared.app", "topology", "render")


def _listed() -> list[Path]:
    return [Path(line) for line in _run(sys.executable, "-c", _LIST).splitlines()]


def _run(*command: str, **environ: str) -> str:
    # The environment's own programs first: `lock` calls one.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        [
            str(ROOT / command[0]) if "/" in command[0] and not Path(command[0]).is_absolute() else command[0],
            *command[1:],
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Refused(f"`{' '.join(command)}` failed, and nothing was changed: {done.stderr.strip()}")
    return done.stdout


def _files() -> list[Path]:
    return sorted(
        path.relative_to(ROOT)
        for folder in TOUCHED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


@contextmanager
def _whole_or_not_at_all() -> Iterator[None]:
    """Where the block fails, every file of these folders is as it was before, Ctrl-C included."""
    before = {path: (ROOT / path).read_bytes() for path in _files()}
    try:
        yield
    except BaseException:
        now = _files()
        for path in now:
            if path not in before:
                (ROOT / path).unlink()
        for path, content in before.items():
            if path not in now or (ROOT / path).read_bytes() != content:
                (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
                (ROOT / path).write_bytes(content)
        _drop_empty({path.parent for path in now})
        raise


def _drop_empty(folders: set[Path]) -> None:
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        whole = ROOT / folder
        if whole.is_dir():
            shutil.rmtree(whole / "__pycache__", ignore_errors=True)
            if not any(whole.iterdir()):
                whole.rmdir()
