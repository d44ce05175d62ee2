"""The page in a real browser, with the tenant, the web process and the workers behind it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from local.children import Children
from local.servers import Redis
from tests.journeys.stage import Stage, on_stage
from tests.pages.people import Member, Visitor, copied


@pytest.fixture(scope="package")
def stage(children: Children, new_database: Callable[[], str], redis_server: Redis) -> Iterator[Stage]:
    """A tenant, and the product with its page; each test brings people of its own."""
    redis_server.flush()
    with on_stage(children, database_url=new_database(), redis_url=redis_server.url, page=True) as stage:
        yield stage


@pytest.fixture
def member(stage: Stage) -> Callable[..., Member]:
    """Call it with a name for somebody who exists at the tenant and is known here."""

    def make(name: str) -> Member:
        return copied(stage, name)

    return make


@pytest.fixture
def visitor(stage: Stage) -> Iterator[Callable[[], Visitor]]:
    """Call it for a browser without a screen or scripts."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Visitor(stage))


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, or another one on the PATH: none is downloaded."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium on the PATH; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Open(Protocol):
    def __call__(self, **how: Any) -> Page: ...


@pytest.fixture
def open_page(chromium: Browser, stage: Stage) -> Iterator[Open]:
    """Call it for the page in a window of its own. What a browser complains of fails the test: scripts, the CSP, files."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def new(**how: Any) -> Page:
            context = stack.enter_context(chromium.new_context(base_url=stage.product.url, **how))
            context.set_default_timeout(30_000)
            page = context.new_page()
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto("/")
            return page

        yield new
    # A refusal that a test is about is logged by the browser as well.
    assert [said for said in complaints if "status of 403" not in said] == []
