"""The tree of a canvas on a terminal."""

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from shared.cli.dlq_view import one_line
from shared.trace.tree import Node

#: Columns where there is no terminal to fit into, or one that does not say.
WIDTH = 80
_STYLES = {"SUCCESS": "green", "FAILURE": "bold red", "REVOKED": "red", "RETRY": "yellow", "UNKNOWN": "dim"}


def show(tree: Node, asked: str, lines: int) -> None:
    """Print it, in colour on a terminal alone. The task that was asked for has an arrow.

    Args:
        lines: of each task's log, the last ones.
    """
    # rich knows a terminal, its width, NO_COLOR and TERM=dumb; a pipe gets plain text.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print(_branch(tree, asked, lines))


def _branch(node: Node, asked: str, lines: int, above: Tree | None = None) -> Tree:
    label = _label(node, asked, lines)
    branch = Tree(label) if above is None else above.add(label)
    for child in node.children:
        _branch(child, asked, lines, branch)
    return branch


def _label(node: Node, asked: str, lines: int) -> Text:
    # As text, and not as markup: names and log lines may come from anybody.
    label = Text()
    label.append(one_line(node.task) or "?", "bold")
    label.append(f"  {node.state}", _STYLES.get(node.state, "cyan"))
    if asked in (node.id, node.group):
        label.append("  <-")
    label.append(f"\n{node.id}", "dim")
    facts = [
        f"queue {node.queue}" if node.queue else "",
        f"wait {seconds(node.wait)}" if node.wait is not None else "",
        f"run {seconds(node.run)}" if node.run is not None else "",
        f"attempts {node.attempts}" if node.attempts else "",
    ]
    if any(facts):
        label.append("\n" + "  ".join(filter(None, facts)))
    if node.worker:
        label.append(f"\nby {one_line(node.worker)}")
    if node.error:
        label.append(f"\n{one_line(node.error)}", "red")
    if node.dead_letter:
        label.append(f"\ndead letter {node.dead_letter['key'][:8]} in {node.dead_letter['queue']}: ", "red")
        label.append(one_line(node.dead_letter["reason"]), "bold red")
    for line in node.log[len(node.log) - lines :] if lines else ():
        label.append(f"\n{line.time[11:23]} {line.level} {one_line(line.text)}", "dim")
    return label


def seconds(value: float) -> str:
    """In three figures or so."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"
