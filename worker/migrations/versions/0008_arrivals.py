"""Remembers when something last came from each source, for longer than the inbox keeps deliveries."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE arrivals (
  source text NOT NULL,
  arrived_at timestamptz NOT NULL,
  dated_at timestamptz,
  CONSTRAINT arrivals_pkey PRIMARY KEY (source)
)
""")
    op.execute("""COMMENT ON COLUMN arrivals.source IS 'as in inbox; "probe" for an attempt to look'""")
    op.execute("COMMENT ON COLUMN arrivals.arrived_at IS 'when some of it that was drained last came (our clock)'")
    op.execute(
        "COMMENT ON COLUMN arrivals.dated_at IS 'newest date of a user''s event among it (Auth0''s clock); events only'"
    )
    op.execute(
        "INSERT INTO arrivals (source, arrived_at) SELECT source, max(received_at) FROM inbox WHERE state = 'done' GROUP BY source"
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
