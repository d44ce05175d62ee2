"""Where the database is: what a backup takes along and a restore cannot put back."""

from typing import Literal

from sqlalchemy import Connection, text

Move = Literal["restored", "failed over"]

# Whoever may not ask where the cluster is (every role may, unless somebody took it away) is told of the rest.
_MAY_ASK = text("""
SELECT has_function_privilege('pg_control_system()', 'execute') AND has_function_privilege('pg_control_checkpoint()', 'execute')
""")
_CLUSTER = "(SELECT system_identifier FROM pg_control_system())", "(SELECT timeline_id FROM pg_control_checkpoint())"
_NO_CLUSTER = "''", "0"
_LOOK = """
WITH here AS (
  SELECT concat_ws(' ', {cluster}, (SELECT oid FROM pg_database WHERE datname = current_database()), 'tenant'::regclass::oid) AS place,
         {timeline} AS timeline
), before AS (
  SELECT tenant.place, tenant.timeline FROM tenant, here
  WHERE (tenant.place, tenant.timeline) IS DISTINCT FROM (here.place, here.timeline) FOR UPDATE OF tenant
), kept AS (
  UPDATE tenant SET place = here.place, timeline = here.timeline FROM here, before
)
SELECT before.place <> here.place, before.timeline <> here.timeline FROM before, here
"""


def moved(connection: Connection) -> Move | None:
    """Remember where the database is; tell, once, that it was elsewhere before.

    "restored": other tables, another database or cluster, so a dump was read in (an old one, or one made to move).
    "failed over": the same, with another history: a standby took over, or the cluster was set back to a point in time.
    """
    cluster, timeline = _CLUSTER if connection.execute(_MAY_ASK).scalar() else _NO_CLUSTER
    row = connection.execute(text(_LOOK.format(cluster=cluster, timeline=timeline))).first()
    if row is None:
        return None
    other_place, other_history = row
    if other_place:
        return "restored"
    return "failed over" if other_history else None
