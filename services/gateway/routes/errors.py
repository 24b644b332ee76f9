"""Errors on purpose: to see that their reports arrive."""

from fastapi import APIRouter
from pydantic import BaseModel

from services.gateway.problem import documented

router = APIRouter(tags=["errors"])


class Nothing(BaseModel):
    """An empty object: what another site's form cannot send."""


@router.get("/report-error", responses=documented(500))
async def report_error() -> None:
    """Divides by zero: the answer is 500, and the error is reported as any other."""
    _divide_by(0)


@router.post("/break", responses=documented(403, 413, 415, 422, 500))
async def break_something(nothing: Nothing) -> None:
    """The same, for a button: what a click does is no GET."""
    _divide_by(0)


def _divide_by(number: int) -> float:
    return 1 / number
