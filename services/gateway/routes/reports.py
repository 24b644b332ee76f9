"""Reports: asked for, listed, fetched."""

import logging
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from services.gateway import download
from services.gateway.catalogue import Report, plain
from services.gateway.house import TheHouse
from services.gateway.problem import Problem, documented
from services.gateway.submit import Submitted, submission
from shared.signatures import reporter as contract

logger = logging.getLogger(__name__)
router = APIRouter(tags=["reports"])


T = TypeVar("T")


class Page(BaseModel):
    """A part of the list of reports.

    Attributes:
        total: how many there are.
        next: the address of the next part, where there is one.
    """

    reports: list[Report]
    total: int
    next: str | None = None


router.add_api_route(
    "/reports",
    submission(contract.produce_report),
    methods=["POST"],
    status_code=202,
    response_model=Submitted,
    name="produce_report",
    responses=documented(403, 413, 415, 422, 503),
)


@router.get("/reports", responses=documented(422, 503), response_model_exclude_none=True)
async def reports(
    house: TheHouse,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Page:
    """Every report that is there, the last written first."""
    known = await _reachable(house.catalogue.reports())
    more = f"/reports?limit={limit}&offset={offset + limit}" if offset + limit < len(known) else None
    return Page(reports=known[offset : offset + limit], total=len(known), next=more)


@router.get(
    "/reports/{name}",
    response_class=Response,
    responses={
        200: {"description": "The file", "content": {"text/csv": {}}},
        206: {"description": "The part that `Range` asks for", "content": {"text/csv": {}}},
        304: {"description": "The reader has it already: `If-None-Match`"},
        416: {"description": "`Range` lies outside of the file"},
        **documented(404, 422, 503),
    },
)
async def report(name: str, request: Request, house: TheHouse) -> Response:
    """The file of a report, by the opaque name that the list and a task's result give."""
    found = await _reachable(house.catalogue.read(name))
    if found is None:
        raise Problem(404, "unknown-report", "name: no report is called so; see /reports for those that are there")
    stored, content = found
    return download.answer(content, plain(stored), request.headers)


# Starlette answers HEAD from GET's content; in the OpenAPI document one of the two is enough.
router.add_api_route("/reports/{name}", report, methods=["HEAD"], include_in_schema=False)


async def _reachable(question: Awaitable[T]) -> T:
    try:
        return await question
    except OSError as error:
        logger.warning("reports cannot be read: %s", error)
        raise Problem(
            503, "reports-away", "The reports cannot be read just now: try again later", retry_after=5
        ) from error
