"""Search by windows of `created_at`, as a program reads a whole tenant where no export is possible."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.simulator.running import Simulator

CAP = 1000
PER_PAGE = 100
CLUMP = "2024-06-01T12:00:00.500Z"


@pytest.fixture(scope="module")
def many() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0")
    span = {"created_from": "2024-01-01T00:00:00Z", "created_to": "2024-03-01T00:00:00Z"}
    assert simulator.control("POST", "users/load", {"count": 3000, **span})["users"] == 3000
    simulator.control("POST", "users/load", {"count": 1200, "created_from": CLUMP})
    yield simulator
    simulator.stop()


def window(tenant: Simulator, bounds: str, page: int = 0, **params: Any) -> dict[str, Any]:
    asked = {"q": f"created_at:{bounds}", "per_page": PER_PAGE, "page": page, "include_totals": "true", **params}
    answer = tenant.api("GET", "users", params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_bisected_windows_find_everyone_once(many: Simulator) -> None:
    def read(since: datetime, until: datetime) -> list[str]:
        low, high = (f"{time.astimezone(UTC).isoformat(timespec='milliseconds')[:23]}Z" for time in (since, until))
        total = window(many, f"[{low} TO {high}}}")["total"]
        if total > CAP:
            middle = since + (until - since) / 2
            middle -= timedelta(microseconds=middle.microsecond % 1000)
            return read(since, middle) + read(middle, until)
        pages = [
            window(many, f"[{low} TO {high}}}", page, sort="created_at:1") for page in range(-(-total // PER_PAGE))
        ]
        return [user["user_id"] for page in pages for user in page["users"]]

    found = read(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    assert len(found) == 3000
    assert set(found) == {user_id for user_id, user in many.truth().items() if user["created_at"] < "2024-03"}


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        (f"[{CLUMP} TO {CLUMP}]", 1200),
        (f'["{CLUMP}" TO "{CLUMP}"]', 1200),
        (f"{{{CLUMP} TO *]", 0),
        (f"[{CLUMP} TO *]", 1200),
        (f"[* TO {CLUMP}}}", 3000),
        (f"[* TO {CLUMP}]", 4200),
        ("[2024-06-01T12:00:00.500Z TO 2024-06-01T12:00:00.501Z}", 1200),
        ("{2024-06-01T12:00:00.499Z TO 2024-06-01T12:00:00.500Z]", 1200),
        ("[2024-06-01T12:00:00Z TO 2024-06-01T12:00:00Z]", 1200),  # to the end of the second
        ("{2024-06-01T12:00:00Z TO *]", 0),  # behind the end of the second
        ("[2024-06-01 TO 2024-06-01]", 1200),
        ("[2024-06 TO 2024-06}", 0),
        ("[2024-06-01T12:00:01Z TO *]", 0),
    ],
)
def test_brackets_and_braces_take_bounds_in_and_leave_them_out(many: Simulator, bounds: str, found: int) -> None:
    assert window(many, bounds)["total"] == found


def test_nobody_behind_the_thousandth_can_be_reached(many: Simulator) -> None:
    assert len(window(many, f"[{CLUMP} TO {CLUMP}]", page=9)["users"]) == PER_PAGE
    params = {"q": f"created_at:[{CLUMP} TO {CLUMP}]", "per_page": PER_PAGE, "page": 10}
    assert many.api("GET", "users", params=params).status_code == 400


def test_pages_in_the_order_of_creation_go_on_where_the_last_one_ended(many: Simulator) -> None:
    pages = [window(many, "[2024-01-01 TO 2024-01-15]", page, sort="created_at:-1")["users"] for page in range(3)]
    times = [user["created_at"] for page in pages for user in page]
    assert times == sorted(times, reverse=True)
    assert len({user["user_id"] for page in pages for user in page}) == 3 * PER_PAGE


@pytest.mark.parametrize("bounds", ["[yesterday TO *]", "[2024-01-01T00:00:00+01:00 TO *]", "[2024-01-01 TO 2024-13x]"])
def test_a_bound_that_is_no_time_is_refused(many: Simulator, bounds: str) -> None:
    assert many.api("GET", "users", params={"q": f"created_at:{bounds}"}).status_code == 400


def test_what_changes_between_two_pages_is_seen(many: Simulator) -> None:
    params = {"q": "created_at:[2024-01-01 TO 2024-01-02]", "sort": "created_at:1", "per_page": 1}
    (first,) = many.api("GET", "users", params=params).json()
    many.act(first["user_id"], "delete")
    (second,) = many.api("GET", "users", params=params).json()
    assert second["user_id"] != first["user_id"]
