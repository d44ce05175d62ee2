"""What the demo measures of people whom its storm may reach before they log in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.copy_watch import CopyWatch
from local.processes import Processes
from local.simulated_tenant import SimulatedTenant
from local.storm import one_login


@pytest.fixture
def tenant(processes: Processes, tmp_path: Path) -> SimulatedTenant:
    return SimulatedTenant.start(processes, tmp_path)


def _somebody(tenant: SimulatedTenant, **befalls: Any) -> str:
    (user_id,) = tenant.control("POST", "people/signup", {"count": 1, "login": False})["user_ids"]
    tenant.control("POST", "people/act", {"user_id": user_id, **befalls})
    return str(user_id)


def test_whoever_the_storm_has_reached_first_is_not_measured(tenant: SimulatedTenant, database_url: str) -> None:
    (primary,) = tenant.control("POST", "people/signup", {"count": 1})["user_ids"]
    with CopyWatch(database_url, tenant) as watch:
        assert one_login(tenant, watch, _somebody(tenant, act="delete")) == []
        assert one_login(tenant, watch, _somebody(tenant, act="block")) == []
        linked = _somebody(tenant, act="change_name", name="Ada")
        tenant.control("POST", "people/act", {"act": "link", "user_id": primary, "secondary": linked})
        assert one_login(tenant, watch, linked) == []
