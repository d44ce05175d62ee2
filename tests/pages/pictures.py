"""`python -m tests.pages.pictures`: takes the pictures of the page that README.md shows, into docs/images/."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from contextlib import ExitStack
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from local.children import Children
from local.product import CHECKOUT
from local.servers import servers_from_environment
from tests.journeys.stage import Stage, on_stage
from tests.pages.people import Member, copied

_IMAGES = CHECKOUT / "docs" / "images"
_LOOKS: dict[str, dict[str, Any]] = {
    "page-desktop-light": {"viewport": {"width": 1200, "height": 1080}, "color_scheme": "light"},
    "page-phone-dark": {"viewport": {"width": 390, "height": 940}, "color_scheme": "dark", "device_scale_factor": 2},
}
_PLAYS = {"Night drive": 61, "Rain on the window": 34, "Kitchen radio": 12}


def main() -> None:
    """Play the scene, and take the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("pictures: there is no chromium on the PATH")
    with ExitStack() as stack:
        children = stack.enter_context(Children())
        servers = stack.enter_context(servers_from_environment(os.environ, children=children))
        postgres, redis = servers.postgres.url, servers.redis.url
        stage = stack.enter_context(on_stage(children, database_url=postgres, redis_url=redis, page=True))
        ada = _scene(stage)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, look in _LOOKS.items():
            page = _logged_in(browser, stage, ada, look)
            page.screenshot(path=_IMAGES / f"{name}.png")
            print(_IMAGES / f"{name}.png")  # noqa: T201 a command


def _scene(stage: Stage) -> Member:
    """Have somebody's playlists be played until she is an editor."""
    ada, ben = copied(stage, "Ada"), copied(stage, "Ben")
    ada.api("PATCH", "/displayName", {"displayName": "Ada"})
    ben.api("PATCH", "/displayName", {"displayName": "Ben"})
    ada.api("PUT", "/genres/fav", {"fav_genre": "Jazz"})
    songs = [
        ada.api("POST", "/songs", {"songname": name})["song_id"] for name in ("Wintersong", "Night Train", "So Long")
    ]
    listeners = [copied(stage, "Listener") for _ in range(7)]
    for name, plays in _PLAYS.items():
        playlist = ada.api("POST", "/playlists", {"name": name, "songs": songs})["playlist_id"]
        for listener in itertools.islice(itertools.cycle(listeners), plays):
            listener.play(playlist)
    stage.wait_until(lambda: "playlist_editor" in (ada.row("roles")[0] or []), "the role")
    sundays = ben.api("POST", "/playlists", {"name": "Slow Sundays"})["playlist_id"]
    for playlist in (1, sundays):
        ada.api("PUT", f"/playlists/{playlist}/featured")
    stage.settle()
    return ada


def _logged_in(browser: Browser, stage: Stage, ada: Member, look: dict[str, Any]) -> Page:
    page = browser.new_context(base_url=stage.product.url, **look).new_page()
    page.goto("/login")
    page.get_by_label("E-mail address").fill(ada.email)
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, Ada EDITOR")
    expect(page.locator("#fresh")).to_contain_text("As Auth0 confirmed it", timeout=30_000)  # the login was news
    return page


if __name__ == "__main__":
    main()
