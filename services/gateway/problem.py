"""Errors as RFC 9457 problem documents, which name the field and say what to do."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

MEDIA_TYPE = "application/problem+json"


class WrongField(BaseModel):
    """A part of the request that was refused."""

    field: str
    place: str
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457. The type is always `about:blank`: the status says what kind it is, and `code` which."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: list[WrongField] | None = None
    task: str | None = None


class Problem(Exception):
    """Answer with a problem document.

    Args:
        status: of the answer.
        code: a short name for programs.
        detail: what is wrong and what to do, for people.
        retry_after: seconds until another attempt may help.
        members: more members of the document.
    """

    def __init__(self, status: int, code: str, detail: str, *, retry_after: int | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.members = members

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The answer itself, with `headers` on top of its own."""
        document = ProblemDocument(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            code=self.code,
            detail=self.detail,
            **self.members,
        )
        return JSONResponse(
            document.model_dump(exclude_none=True),
            self.status,
            {**self.headers, **(headers or {})},
            MEDIA_TYPE,
        )


def install(app: FastAPI) -> None:
    """Make `app` answer every error that it knows of with a problem document."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.add_exception_handler(HTTPException, _http_error)
    # FastAPI knows of models that routes answer with; of errors it knows only where their schema stands.
    plain = app.openapi

    def with_problems() -> dict[str, Any]:
        document = plain()
        schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= {**schema.pop("$defs"), "ProblemDocument": schema}
        return document

    app.openapi = with_problems  # type: ignore[method-assign]


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What FastAPI's `responses=` takes, for answers with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response()


async def _wrong_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = [_wrong_field(one) for one in error.errors()]
    detail = "; ".join(f"{one.field}: {one.detail}" for one in wrong)
    return Problem(422, "invalid-request", detail, errors=wrong).response()


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, detail = "http-error", str(error.detail)
    if error.status_code == 400:
        # FastAPI's word for a body that is no text at all; for one that is no JSON it has the other.
        wrong = WrongField(field="body", place="body", detail="must be JSON in UTF-8")
        return Problem(422, "invalid-request", f"body: {wrong.detail}", errors=[wrong]).response()
    if error.status_code == 404:
        code, detail = "no-such-route", f"Nothing is at {request.url.path!r:.200}: see /docs for what is"
    elif error.status_code == 405:
        code, allowed = "method-not-allowed", ", ".join(_allowed(request))
        detail = f"{request.method} is not what {request.url.path!r:.200} takes, but {allowed}"
        # Starlette names those of one route, and a path may have several.
        return Problem(405, code, detail).response({"Allow": allowed})
    return Problem(error.status_code, code, detail).response(error.headers)


def _allowed(request: Request) -> list[str]:
    """The methods that the request's path takes: those of any route that matches it, or of files."""
    routes = request.app.router.routes
    found = [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return found or ["GET", "HEAD"]


def _wrong_field(problem: Mapping[str, Any]) -> WrongField:
    # FastAPI puts the place first: `body`, `query`, `path`; and the character's number, where it is no JSON at all.
    place, *path = (str(part) for part in problem["loc"])
    field = "body" if problem["type"] == "json_invalid" or not path else ".".join(path)
    return WrongField(field=field, place=place, detail=problem["msg"])
