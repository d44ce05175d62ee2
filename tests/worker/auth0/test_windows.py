"""Searches by windows of `created_at`, asked of a simulated tenant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulator.running import Simulator
from tests.worker.sync.asking import Asking, asking
from worker.auth0.client import Rejected
from worker.domain.windows import ALWAYS, Place
from worker.errors import TenantDown


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0")
    span = {"created_from": "2024-01-01T00:00:00Z", "created_to": "2024-03-01T00:00:00Z"}
    simulator.control("POST", "users/load", {"count": 120, **span})
    yield simulator
    simulator.stop()


@pytest.fixture
def tenant(auth0: Simulator, redis_url: str) -> Iterator[Asking]:
    with asking(auth0, redis_url) as parts:
        yield parts
    auth0.control("PUT", "faults", [])
    auth0.control("PUT", "limits", {"per_page_max": 100})


def test_everybody_is_in_the_first_window(tenant: Asking) -> None:
    page = tenant.windows.page(Place())
    assert page is not None
    assert (len(page.users), page.shown.total) == (100, 120)
    assert list(page.shown.created) == sorted(created for created in page.shown.created if created is not None)


def test_neither_end_of_two_windows_side_by_side_loses_or_doubles_anybody(tenant: Asking) -> None:
    page = tenant.windows.page(Place())
    assert page is not None
    border = page.shown.created[50]
    assert border is not None
    before = tenant.windows.page(Place(((ALWAYS[0], border),)))
    behind = tenant.windows.page(Place(((border, ALWAYS[1]),)))
    assert before is not None
    assert behind is not None
    assert (before.shown.total, behind.shown.total) == (50, 70)


def test_smaller_pages_are_learnt_and_what_was_seen_is_passed_over(auth0: Simulator, tenant: Asking) -> None:
    windows = tenant.windows
    auth0.control("PUT", "limits", {"per_page_max": 50})
    assert windows.page(Place()) is None
    page = windows.page(Place(seen=70))
    assert page is not None
    assert len(page.users) == 30  # the second page of fifty, but for the twenty that were seen


def test_a_search_that_takes_too_long_is_asked_for_smaller_pages_and_then_given_up(
    auth0: Simulator, tenant: Asking
) -> None:
    windows = tenant.windows
    fault = {"where": "api", "kind": "status", "status": 503, "match": {"path": "/api/v2/users$"}}
    auth0.control("PUT", "faults", [fault])
    assert windows.page(Place()) is None
    with pytest.raises(TenantDown, match="gave up"):
        windows.page(Place())


def test_a_query_that_auth0_does_not_take_is_no_outage(auth0: Simulator, tenant: Asking) -> None:
    fault = {"where": "api", "kind": "status", "status": 400, "match": {"path": "/api/v2/users$"}}
    auth0.control("PUT", "faults", [fault])
    with pytest.raises(Rejected):
        tenant.windows.page(Place())


def test_the_total_is_told(tenant: Asking) -> None:
    assert tenant.windows.total() == 120
