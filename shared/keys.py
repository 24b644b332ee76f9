"""What keys in Redis begin with, and so whose they are: `shared/render/redis_users.py` lets its users in by these."""

#: A task's state, result and progress. Celery's own prefix; who knows a task's id may read it.
RESULTS = "celery-task-meta-"
#: The parts of groups, and the counts of chords. Celery's own prefix.
GROUPS = "celery-taskset-meta-"
#: Beat's schedule and its lock. RedBeat's own prefix.
SCHEDULE = "redbeat:"
#: Records of replays, by the operator.
DEAD_LETTERS = "dead-letter:"


def own(service: str) -> str:
    """What the keys of a service begin with."""
    return f"{service}:"
