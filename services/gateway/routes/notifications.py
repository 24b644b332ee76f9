"""Notices to people, in their language."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response

from services.gateway.house import TheHouse
from services.gateway.problem import documented
from services.gateway.submit import Submitted, submission
from shared.scope import scope
from shared.signatures import scoped as contract

router = APIRouter(tags=["notifications"])

_TAG = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_submit = submission(contract.notify)


@router.post("/notifications", status_code=202, responses=documented(403, 413, 415, 422, 503))
async def notify(
    arguments: Annotated[Any, Body()],
    response: Response,
    house: TheHouse,
    accept_language: Annotated[str | None, Header()] = None,
) -> Submitted:
    """Mail a notice: in the `locale` of the body, else in the best one of `Accept-Language`, else in English."""
    with scope(**wanted(accept_language)):
        return await _submit(arguments, response, house)


# The body has the declared parameters, checked by their types; they are written once, in the declaration.
notify.__annotations__["arguments"] = Annotated[contract.notify.arguments, Body()]


def wanted(accept_language: str | None) -> dict[str, str]:
    """The scope for who sends this header: the language of its highest weight that there are words for, if any.

    Source: RFC 9110, section 12.5.4.
    """
    weighted: list[tuple[float, int, str]] = []
    for part in (accept_language or "").split(","):
        tag, _, weight = part.strip().partition(";")
        quality = _quality(weight)
        if _TAG.fullmatch(tag.strip()) and len(tag) <= contract.LONGEST_TAG and quality > 0:
            weighted.append((-quality, len(weighted), tag.strip()))
    for _, _, tag in sorted(weighted):
        if tag.partition("-")[0].lower() in contract.LANGUAGES:
            return {"locale": tag}
    return {}


def _quality(weight: str) -> float:
    name, _, value = weight.strip().partition("=")
    if not weight.strip():
        return 1.0
    return float(value) if name.strip().lower() == "q" and re.fullmatch(r"[01](\.\d{0,3})?", value.strip()) else 0.0
