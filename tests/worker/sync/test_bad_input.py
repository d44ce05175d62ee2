"""Every bad delivery of the corpus through drain, on a real database: what is good in it counts, what is bad is parked with its bytes."""

import pytest
import zstandard
from sqlalchemy import Engine, text

from tests.corpus import Sample, corpus
from worker.sync.drain import drain
from worker.sync.learn import LogRecords


def put(engine: Engine, body: bytes) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO inbox (source, size, body) VALUES ('logs', :size, :body)"),
            {"size": len(body), "body": zstandard.compress(body)},
        )


def applied(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return {user_id for (user_id,) in connection.execute(text("SELECT user_id FROM users"))}


@pytest.mark.parametrize("sample", corpus(1), ids=lambda sample: sample.name)
def test_a_bad_delivery_costs_only_what_is_bad_in_it(engine: Engine, sample: Sample) -> None:
    put(engine, sample.body)
    assert drain(engine, LogRecords(), go_on=lambda: True) == 1, "a retry storm, or nothing"
    assert set(sample.applied) <= applied(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT state FROM inbox")).scalar() == "done"
        parked = [bytes(raw) for (raw,) in connection.execute(text("SELECT record FROM parked"))]
    assert sample.parked is None or len(parked) == sample.parked
    assert all(raw in sample.body for raw in parked), "a parked record's bytes are not those that came"


def test_all_of_them_at_once_lose_nothing_good(engine: Engine) -> None:
    samples = list(corpus(2))
    for sample in samples:
        put(engine, sample.body)
    assert drain(engine, LogRecords(), go_on=lambda: True) == len(samples)
    assert {user_id for sample in samples for user_id in sample.applied} <= applied(engine)
