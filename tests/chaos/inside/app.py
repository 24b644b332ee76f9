"""In the chaos cases, in the place of a service's own `app.py`: the same app, and tasks whose effects are counted.

CHAOS_WITHOUT names guards that are taken away, so that the oracle can be seen to fail without them.
"""

import os

from shared.app import create_app

assert __package__
app = create_app(__package__.rpartition(".")[2])
app.conf.include = [*app.conf.include, f"{__package__}.chaos"]

WITHOUT = frozenset(os.environ.get("CHAOS_WITHOUT", "").split(","))
if "late_ack" in WITHOUT:
    app.conf.update(task_acks_late=False, task_reject_on_worker_lost=False)
if "consumer" in WITHOUT:
    app.conf.worker_consumer = "tests.chaos.inside.consumer:Plain"
if heartbeat := os.environ.get("CHAOS_HEARTBEAT"):
    app.conf.broker_heartbeat = int(heartbeat)
