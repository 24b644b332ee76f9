"""Sub-commands of `celery` itself: `celery -A shared.app <command>`."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means."""

    OK = 0
    FAILED = 1
    """The task failed, or what was checked is not so."""
    USAGE = 2
    """An argument or a setting is wrong."""
    UNREACHABLE = 3
    """The broker or the result store does not answer."""
    TIMEOUT = 4
    """Nobody answered in time."""
    BUSY = 5
    """Another command has the queue in its hands."""
    INTERRUPTED = 130
    """Ctrl-C: what was done is done, and the same command goes on with the rest."""
