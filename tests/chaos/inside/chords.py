"""Calls chords one after another, waits for each, and prints what their caller got: `result`, or the error's name.

Usage: chords.py '{"prefix": "c", "count": 5, "parts": 4, "seconds": 0.5, "every": 0.5, "patience": 40}'
"""

import json
import sys
import threading
import time
from typing import Any

from celery import chord

from shared.app import app


def call(key: str, parts: int, seconds: float, patience: float) -> str:
    """One chord, whose body has the id `key`; gives what its caller got."""
    part = app.signature("calculator.chaos.part", kwargs={"seconds": seconds}, options={"ignore_result": False})
    header = [part.clone().set(task_id=f"{key}-part{number}") for number in range(parts)]
    body = app.signature("calculator.chaos.body").set(task_id=key, ignore_result=False)
    try:
        chord(header, body, app=app).apply_async().get(timeout=patience)
    except Exception as error:
        return type(error).__name__
    return "result"


def main(order: dict[str, Any]) -> None:
    """Each chord has a caller of its own, as in a program with many requests at once."""
    outcomes: dict[str, str] = {}

    def caller(key: str) -> None:
        outcomes[key] = call(key, order["parts"], order["seconds"], order["patience"])

    callers = []
    for number in range(order["count"]):
        callers.append(threading.Thread(target=caller, args=[f"{order['prefix']}{number}"]))
        callers[-1].start()
        time.sleep(order["every"])
    for one in callers:
        one.join()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
