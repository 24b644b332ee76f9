"""All services on a terminal."""

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared.cli.dlq_view import age
from shared.overview import Overview, Service

#: Columns where there is no terminal to fit into.
WIDTH = 80
#: Seconds after which a key that was pressed is seen.
BLINK = 0.1
_COLUMNS = ("service", "up", "busy", "pool", "ready", "unack", "in/s", "out/s", "wait", "dead", "dead/s")
#: Seconds from which on a wait is shown as trouble: queues that keep up hand on within the first three.
LATE = 60.0


def plain(overview: Overview) -> None:
    """Print one look; in colour on a terminal alone."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print(frame(overview))


def live(look: Callable[[], Overview], interval: float) -> None:
    """Show looks until q or Ctrl-C, and leave the terminal as it was.

    Raises:
        Exception: the first look's. What goes wrong later is shown, and tried again.
    """
    console = Console(highlight=False)
    state = _State(look())
    stopped = threading.Event()
    # In a thread of its own: a look may take seconds, and a key should not.
    looks = threading.Thread(target=_look_on, args=(look, interval, state, stopped), daemon=True)
    looks.start()
    with (
        _keys() as pressed,
        Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as shown,
    ):
        while True:
            shown.update(Group(frame(state.overview), Text(f"\n{state.trouble}q quits", "dim")), refresh=True)
            if "q" in pressed(BLINK):
                stopped.set()
                return


class _State:
    def __init__(self, overview: Overview) -> None:
        self.overview = overview
        self.trouble = ""


def _look_on(look: Callable[[], Overview], interval: float, state: _State, stopped: threading.Event) -> None:
    while not stopped.wait(interval):
        try:
            state.overview, state.trouble = look(), ""
        except Exception as error:
            state.trouble = f"{error}\n"


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Gives what asks for the keys that were pressed; while the block runs, none is shown and none waits for Enter."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    told = signal.signal(signal.SIGTERM, _leave)

    def pressed(seconds: float) -> str:
        if not select.select([terminal], [], [], seconds)[0]:
            return ""
        return os.read(terminal, 64).decode(errors="replace") or "q"

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, told)


def _leave(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def frame(overview: Overview) -> Group:
    """One look, 80 columns wide at most."""
    head = Text(f"taskhouse  {overview.time.replace('+00:00', 'Z')}  delayed {amount(overview.delayed)}  ")
    head.append(f"unrouted {amount(overview.unrouted)}", "bold red" if overview.unrouted else "")
    for alarm in overview.alarms:
        head.append(f"  ALARM {alarm}", "bold white on red")
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "service" else "right", no_wrap=True)
    for service in overview.services:
        table.add_row(*_cells(service))
    return Group(head, table, *(Text(f"not known: {what}", "yellow") for what in overview.missing))


def _cells(service: Service) -> Iterator[Text]:
    yield Text(service.name, "bold")
    yield Text(str(service.workers), "" if service.workers else "bold red")
    yield Text("?" if service.running is None else str(service.running))
    yield Text("?" if service.pool is None else str(service.pool))
    # Without anybody who takes them they wait for ever.
    yield Text(amount(service.ready), "bold red" if service.ready and not service.workers else "")
    yield Text(amount(service.unacked))
    yield Text(rate(service.rate_in))
    yield Text(rate(service.rate_out), "green" if service.rate_out else "")
    yield Text("?" if service.wait is None else age(service.wait), "yellow" if (service.wait or 0) >= LATE else "")
    yield Text(amount(service.dead), "red" if service.dead else "")
    yield Text(rate(service.rate_dead), "bold red" if service.rate_dead else "")


def amount(count: int) -> str:
    """In five characters at most."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size:
            return f"{count // size}{unit}"
    return str(count)


def rate(value: float) -> str:
    """A second; small ones with a fraction."""
    return "0" if not value else f"{value:.1f}" if value < 100 else amount(round(value))
