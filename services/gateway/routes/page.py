"""The page, the documentation, and what both load: all from here."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from services.gateway.house import TheHouse

_STATIC = Path(__file__).parent.parent / "static"
#: Open to everyone, with or without a key: none of it is anybody's data.
OPEN_PATHS = ("/", "/docs", "/favicon.ico", "/static/", "/swagger-ui/")

router = APIRouter(tags=["page"])


class PageSettings(BaseModel):
    """What the page must be told.

    Attributes:
        mail_catcher_url: where the mail catcher's inbox is; None where there is none.
    """

    mail_catcher_url: str | None


@router.get("/page-settings")
async def page_settings(house: TheHouse) -> PageSettings:
    """What the page must be told. It also shows whether a key is valid."""
    url = house.settings.mail_catcher_url
    return PageSettings(mail_catcher_url=None if url is None else str(url))


@router.get("/", include_in_schema=False)
async def index() -> FileResponse:
    """The page."""
    return FileResponse(_STATIC / "index.html", headers=_ASK_EACH_TIME)


@router.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    """The OpenAPI document for people."""
    return FileResponse(_STATIC / "docs.html", headers=_ASK_EACH_TIME)


@router.get("/favicon.ico", include_in_schema=False)
async def favicon() -> FileResponse:
    """Browsers ask for it whatever the page says."""
    return FileResponse(_STATIC / "icon.svg", media_type="image/svg+xml")


def mount(app: FastAPI) -> None:
    """Serve the page's files, and those of Swagger UI that a package brings."""
    app.mount("/static", _Fresh(directory=_STATIC), name="static")
    app.mount("/swagger-ui", _Fresh(directory=str(files("fastapi_offline") / "static")), name="swagger-ui")


#: A new version must not meet an old script: ask each time, and get a 304.
_ASK_EACH_TIME = {"Cache-Control": "no-cache"}


class _Fresh(StaticFiles):
    def file_response(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        response = super().file_response(*args, **kwargs)
        response.headers.update(_ASK_EACH_TIME)
        return response
