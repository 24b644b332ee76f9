"""Is this worker consuming its queue? A file says so."""

from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger

logger = get_logger(__name__)

#: Seconds between two signs of health; a check should look less often.
INTERVAL = 2.0
#: Seconds until the next look at a worker that does not consume.
RETRY = 0.1


class HealthFile(bootsteps.StartStopStep):
    """Makes the file `HEALTH_FILE` again and again while the worker holds a consumer on its queue.

    Who checks deletes it: `rm FILE` succeeds only when the worker made it since the last check, and costs a
    millisecond. A worker that is connected but consumes nothing, or whose loop hangs, makes no file.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self.path: Path = consumer.app.settings.health_file
        self.timer: Any = None

    def start(self, consumer: Any) -> None:
        """Begin to look; the consumer begins to consume only after all its steps have started."""
        self._look(consumer)

    def stop(self, consumer: Any) -> None:
        """No connection, no sign."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.path.unlink(missing_ok=True)

    def _look(self, consumer: Any) -> None:
        consumes = self._consumes(consumer)
        if consumes:
            self._sign()
        self.timer = consumer.timer.call_after(INTERVAL if consumes else RETRY, self._look, (consumer,))

    def _consumes(self, consumer: Any) -> bool:
        tasks = consumer.task_consumer
        queues = consumer.app.amqp.queues.consume_from
        return tasks is not None and all(tasks.consuming_from(name) for name in queues)

    def _sign(self) -> None:
        try:
            self.path.touch()
        except OSError as error:
            logger.warning("HEALTH_FILE: cannot make %s: %s", self.path, error.strerror)
