"""An operator's answer to the brake writes to many rows at once, beside loops that do: it locks them in the order of ids."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, text

from worker.store import pushes, users

ANSWERS: dict[str, tuple[str, Callable[[Connection], int]]] = {
    "ask again about deletions": ("news", users.recheck_deletions),
    "allow deletions": ("news", lambda connection: users.allow_deletions(connection, 10)),
    "compare roles again": ("pushes", pushes.recheck_removals),
    "allow losses of roles": ("pushes", lambda connection: pushes.allow_removals(connection, 10)),
}


@pytest.mark.parametrize(("table", "answer"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_to_the_brake_holds_no_row_while_it_waits_for_one_with_a_smaller_id(
    engine: Engine, table: str, answer: Callable[[Connection], int]
) -> None:
    with engine.begin() as connection:  # the larger id first, in the table as by age
        for user_id in ("auth0|b", "auth0|a"):
            connection.execute(
                text(f"INSERT INTO {table} (user_id, braked_at) VALUES (:id, clock_timestamp())"),  # noqa: S608 (ours)
                {"id": user_id},
            )
    answered = threading.Thread(target=lambda: _in_a_transaction(engine, answer))
    with engine.begin() as writer:
        lock = text(f"SELECT FROM {table} WHERE user_id = :id FOR UPDATE NOWAIT")
        writer.execute(lock, {"id": "auth0|a"})
        answered.start()
        _until_somebody_waits(engine)
        writer.execute(lock, {"id": "auth0|b"})  # held by the answer, it would be a deadlock
    answered.join()
    with engine.connect() as connection:
        left = connection.execute(text(f"SELECT count(*) FROM {table} WHERE braked_at IS NOT NULL"))  # noqa: S608 (ours)
        assert left.scalar_one() == 0


def _in_a_transaction(engine: Engine, answer: Callable[[Connection], int]) -> None:
    with engine.begin() as connection:
        answer(connection)


def _until_somebody_waits(engine: Engine) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 20
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(text(waiting)).scalar_one():
            assert time.monotonic() < deadline, "nobody waited for a lock"
            time.sleep(0.02)
