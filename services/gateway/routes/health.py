"""Is the process alive; can it take work."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from services.gateway.broker import BrokerAway
from services.gateway.house import House, TheHouse
from services.gateway.results import ResultsAway

router = APIRouter(tags=["health"])

Answer = Literal["ok", "away"]
#: Seconds that the storage may take to be "ok". Who asks whether work is taken does not wait for longer.
REPORTS_WITHIN = 2.0


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the gateway stands on. Without the result store it still takes work, so only the broker decides."""

    broker: Answer
    results: Answer
    reports: Answer


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers. An outage elsewhere is no reason to start it anew."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "The broker does not answer"}})
async def readyz(house: TheHouse, response: Response) -> Readiness:
    """Whether work is taken."""
    # Open to everyone, so many who ask must not keep the threads from their work.
    readiness = await house.readiness.share("", lambda: _look(house))
    if readiness.broker == "away":
        response.status_code = 503
    return readiness


async def _look(house: House) -> Readiness:
    broker, results, reports = await asyncio.gather(
        _answers(house.publisher.check(), BrokerAway),
        _answers(house.results.read("readyz"), ResultsAway),
        _answers(asyncio.wait_for(house.catalogue.reports(), REPORTS_WITHIN), OSError),
    )
    return Readiness(broker=broker, results=results, reports=reports)


async def _answers(question: Awaitable[object], away: type[Exception]) -> Answer:
    try:
        await question
    except away:
        return "away"
    return "ok"
