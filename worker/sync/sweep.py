"""The sweep: finds who differs from what was earned or wished, whether anybody told or not (P15)."""

from collections.abc import Callable

from sqlalchemy import Connection, Engine

from worker.store import notes, people, pushes
from worker.store.pushes import Mark
from worker.sync.brake import BRAKED
from worker.sync.plans import Planner

# Users looked at in one transaction: some 20 ms of reading.
ROWS = 2000


def sweep(engine: Engine, planner: Planner, *, go_on: Callable[[], bool]) -> int:
    """Go on through the users, from where the last sweep stopped, until their end or until `go_on` says stop; return how many were marked."""
    marked, ended = 0, False
    roles, names = sorted({rule.role for rule in planner.rules}), bool(planner.default_name)
    while not ended and go_on():
        with engine.begin() as connection:
            begin = people.position(connection)
            found = people.stretch(connection, begin, rows=ROWS, roles=roles, names=names)
            marked += _mark(connection, planner, found.suspects)
            people.move(connection, found.end)
            ended = found.end is None
            if ended and not pushes.braked(connection):
                notes.end_condition(connection, BRAKED)
    return marked


def _mark(connection: Connection, planner: Planner, suspects: list[str]) -> int:
    """Mark those of the suspects for whom something is to be sent now."""
    known, marks = people.people(connection, suspects), pushes.held(connection, suspects)
    hurried, last = [], []
    for user_id, person in known.items():
        plan = planner.plan(marks.get(user_id) or Mark(user_id), person, person.metadata, person.updated_at)
        if plan.send.default_only:
            last.append(user_id)
        elif plan.send.values or plan.send.shown or (user_id in marks and not plan.waits):
            hurried.append(user_id)
    pushes.mark(connection, hurried, last=last)
    return len(hurried) + len(last)
