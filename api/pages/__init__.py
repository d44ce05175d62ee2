"""The page: what people see of the music app in a browser, made on the server."""

from collections.abc import Awaitable, Callable, Iterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from api.operations import Music
from api.pages.changes import CHANGES, endpoint
from api.pages.files import Files
from api.pages.home import home
from api.pages.login import CALLBACK, Login
from api.pages.site import Entrance, Site
from worker.settings import Settings

NEEDED = ("auth0_audience", "public_url", "auth0_web_client_id", "auth0_web_client_secret")
"""The settings without which there is no page."""


def page_routes(settings: Settings, music: Music | None) -> list[BaseRoute]:
    """Return the page's routes; where a setting lacks, one that says so. Raises WrongSetting for a CA file that is none."""
    lacking = settings.lacking(*NEEDED)
    if music is None or lacking:
        return [Route("/", _absent(lacking))]
    return list(_routes(Site(settings, music)))


def _routes(site: Site) -> Iterator[BaseRoute]:
    login = Login(site)
    yield Route("/", Entrance(site, "GET", home))
    yield Route("/login", Entrance(site, "GET", login.begin))
    yield Route(CALLBACK, Entrance(site, "GET", login.finish))
    yield Route("/logout", Entrance(site, "POST", login.leave))
    for change in CHANGES:
        yield Route(f"/page{change.path}", Entrance(site, "POST", endpoint(change)))
    yield Mount("/static", Files())


def _absent(lacking: list[str]) -> Callable[[Request], Awaitable[Response]]:
    async def absent(_request: Request) -> Response:
        text = f"There is no page here. Who runs this service can have one by setting {', '.join(lacking)}.\n"
        return PlainTextResponse(text, 404)

    return absent
