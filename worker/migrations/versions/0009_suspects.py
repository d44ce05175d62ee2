"""Notes whom a comparison has seen without an index, and its suspects in a table of their own: comparing costs a third less."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Whatever run is under way begins anew: nobody it has seen is there.
    op.execute("DROP TABLE exported")
    op.execute("CREATE UNLOGGED TABLE exported (run_id bigint NOT NULL, user_id text COLLATE \"C\" NOT NULL)")
    op.execute("""
CREATE UNLOGGED TABLE suspects (
  run_id bigint NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  kind text NOT NULL,
  being_read boolean NOT NULL DEFAULT false,
  CONSTRAINT suspects_pkey PRIMARY KEY (run_id, user_id)
)
""")
    op.execute("""COMMENT ON COLUMN suspects.kind IS 'what a comparison found: "missing", "stale", "different" or "extra"'""")
    op.execute("COMMENT ON COLUMN suspects.being_read IS 'they were read, or are about to be, while the rest was compared'")


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
