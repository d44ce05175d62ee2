"""What was pulled of the log is known by what was heard, though Auth0's clock and ours differ."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from tests.simulator.running import Simulator
from tests.worker.sync.pulling import Copy, copy_of


@pytest.fixture
def copy(engine: Engine, redis_url: str) -> Iterator[Copy]:
    auth0 = Simulator()
    with copy_of(auth0, engine, redis_url) as copy:
        yield copy
    auth0.stop()


@pytest.mark.parametrize("ahead", [timedelta(minutes=50), timedelta(0), timedelta(minutes=-50)])
def test_a_record_is_known_though_its_date_is_off_our_clock(copy: Copy, ahead: timedelta) -> None:
    date = (datetime.now(UTC) + ahead).isoformat()
    data = {"log_id": "9002", "type": "s", "date": date, "user_id": "auth0|a"}
    copy.is_delivered([{"log_id": "9002", "data": data}])
    copy.drain()
    copy.is_delivered([data, {**data, "log_id": "9003"}], "pulled")
    copy.drain()
    assert copy.count("log_records_pulled") == 2
    assert copy.count("log_records_missed") == 1
