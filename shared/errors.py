"""The tree of errors that this project raises on purpose. Each message says what to do next."""

from typing import Any


class Error(Exception):
    """Root of the tree: catch it to tell an error of ours from a bug."""


class ConfigError(Error):
    """A setting is missing or wrong. The message names the environment variable."""


class TopologyError(Error):
    """Two services contradict each other, or one is not well formed."""


class ContractError(Error):
    """An implementation and its declared signature differ."""


class InvalidArguments(Error, ValueError):
    """A task was called, or arrived, with arguments that its signature refuses. The message names each of them."""


class Final(Error):
    """Another attempt cannot help: the task fails at once and its message becomes a dead letter."""


class Retryable(Error):
    """Another attempt may help.

    Attributes:
        retry_after: seconds until the other side will answer again, where it said so; else None, and
            the task's own backoff applies.
    """

    def __init__(self, message: str, retry_after: float | None = None, *rest: Any) -> None:
        # Both stay in `args`, because a result store rebuilds an exception from them.
        super().__init__(message, retry_after, *rest)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])
