"""What an operator wishes for a user (P17)."""

from datetime import timedelta

from sqlalchemy import Connection

from worker.errors import BadValue
from worker.store import forgotten, people, pushes, wishes

LONGEST_PLAN = 100


def choose_plan(connection: Connection, user_id: str, plan: str) -> None:
    """Wish a plan for a user, an alias taken for its primary (P13); BadValue for nobody we know, and for what is no plan's name."""
    if not plan or len(plan) > LONGEST_PLAN or not plan.isprintable() or plan != plan.strip():
        raise BadValue(f"a plan's name is 1 to {LONGEST_PLAN} characters that can be printed")
    primary = people.primary(connection, user_id)
    if primary is None or forgotten.among(connection, [primary]):
        raise BadValue(
            "no living user of that id is known here: compare it with Auth0's, quoted for the shell because of its |"
        )
    wishes.wish(connection, primary, "plan", plan)
    pushes.mark(connection, [primary], after=timedelta(0))
