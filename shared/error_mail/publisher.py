"""One kept connection to the broker, for one thread, that gives up soon."""

from collections.abc import Callable, Mapping
from typing import Any

from shared.app import App, create_app
from shared.config import Settings
from shared.signatures import mailer as contract

#: Seconds to reach the broker, and for it to confirm. Nobody waits for these but our own thread.
TIMEOUT = 3.0

Publish = Callable[[Mapping[str, Any]], None]


class Publisher:
    """Publishes reports. Made and used by one thread of one process."""

    def __init__(self, settings: Settings) -> None:
        # A guest in somebody's program: their own Celery app stays the current one.
        self._app: App = create_app(settings=settings, current=False)
        # One attempt, wherever kombu connects; else it goes on for ever. When to try again is the sender's to say.
        options = {**self._app.conf.broker_transport_options, "max_retries": 0}
        self._app.conf.update(
            broker_transport_options=options,
            broker_connection_timeout=TIMEOUT,
            # It would take a right to another exchange.
            task_send_sent_event=False,
            # Nobody reads a result, so nothing here needs its store.
            result_backend="disabled://",
        )
        self._connection: Any = None

    def __call__(self, item: Mapping[str, Any]) -> None:
        """Publish `{"id": …, "arguments": …}` and return when the broker has it.

        Raises:
            Exception: whatever the broker's client raises: it has it not, or nobody knows. The id makes a second
                copy harmless.
        """
        signature = contract.report_error(**item["arguments"])
        try:
            if self._connection is None:
                self._connection = self._app.connection_for_write()
                self._connection.ensure_connection(max_retries=0)
            with self._app.amqp.Producer(self._connection, auto_declare=False) as producer:
                self._app.send_task(
                    signature.task,
                    kwargs=signature.kwargs,
                    task_id=item["id"],
                    producer=producer,
                    retry=False,
                    confirm_timeout=TIMEOUT,
                    **signature.options,
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the broker; the next report makes a new connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Without a word to a broker that may not answer.
            connection.collect(socket_timeout=TIMEOUT)
