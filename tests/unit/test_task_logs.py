"""Task logs cost nothing when they are off."""

import logging
from collections.abc import Callable
from pathlib import Path

from celery import signals

from shared import task_logs
from shared.app import App

SIGNALS = (signals.task_received, signals.task_prerun, signals.task_success, signals.task_failure)
OURS = {task_logs._received, task_logs._started, task_logs._succeeded, task_logs._failed}


def connected() -> bool:
    """Whether anything of ours hears what happens to tasks, or what they log."""
    loggers = (logging.getLogger(), logging.getLogger("celery.task"), task_logs.life)
    handlers = [one for logger in loggers for one in logger.handlers]
    heard = {receiver for signal in SIGNALS for _, receiver in signal.receivers}
    return bool(OURS & heard) or any(isinstance(one, task_logs.TaskLogHandler) for one in handlers)


def test_when_off_nothing_is_connected(make_app: Callable[..., App]) -> None:
    # Given an app that was told of no folder and no format
    make_app("reporter")
    # Then no signal is heard and no logger has a handler of ours
    assert not connected()


def test_when_on_they_are_and_off_again_they_are_not(make_app: Callable[..., App], tmp_path: Path) -> None:
    make_app("reporter", task_log_dir=tmp_path / "logs")
    assert connected()
    # No folder is made before there is something to write.
    assert not (tmp_path / "logs").exists()
    make_app("reporter")
    assert not connected()


def test_a_tasks_name_is_no_path() -> None:
    assert task_logs.file_name("calculator.add") == "calculator.add.log"
    assert task_logs.file_name("../../etc/passwd") == "_._.._etc_passwd.log"
