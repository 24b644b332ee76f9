"""`uvicorn --factory services.gateway.app:create` starts here."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware

from services.gateway import logs, metrics, problem, tracing
from services.gateway.error_report import ErrorReport
from services.gateway.guards import ApiKeys, SameOrigin, SecureHeaders
from services.gateway.house import House
from services.gateway.routes import errors, health, notifications, page, reports, tasks
from services.gateway.settings import GatewaySettings
from services.gateway.stopping import when_told_to_stop
from shared.errors import ConfigError

HEALTH_PATHS = ("/healthz", "/readyz")
DESCRIPTION = """
Submits work, shows how far it is, and serves the reports that come of it.

A submission answers at once with the task's links. Errors are problem documents (RFC 9457): `code` says which, `detail`
says what to do.
"""


def create() -> FastAPI:
    """The gateway, with the settings of the environment. Where one is wrong the process ends with a line about it."""
    try:
        return build(GatewaySettings.load())
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def build(settings: GatewaySettings) -> FastAPI:
    """The gateway as an ASGI app."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.house = house = House.build(settings)
        when_told_to_stop(house.watchers.close)
        async with metrics.told(settings, house.results):
            yield
        await house.close()

    app = FastAPI(
        title="taskhouse",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        # Its own page would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # The outermost first.
        middleware=[
            Middleware(metrics.CountRequests),
            Middleware(tracing.TraceRequests),
            Middleware(SecureHeaders),
            Middleware(ErrorReport),
            Middleware(ApiKeys, keys=settings.api_keys, open_paths=(*page.OPEN_PATHS, *HEALTH_PATHS)),
            Middleware(SameOrigin),
        ],
    )
    # The middleware asks for the key; this tells of it in the OpenAPI document.
    key: dict[str, Any] = {}
    if settings.api_keys:
        key = {"dependencies": [Security(HTTPBearer(auto_error=False))], "responses": problem.documented(401)}
    for routes in (reports, tasks, notifications, errors, page):
        app.include_router(routes.router, **key)
    app.include_router(health.router)
    page.mount(app)
    problem.install(app)
    logs.configure(settings)
    return app
