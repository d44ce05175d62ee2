"""Where this database is, so that one restored from a backup is noticed."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    ALTER TABLE tenant ADD COLUMN place text, ADD COLUMN timeline integer;
    COMMENT ON COLUMN tenant.place IS 'the cluster, the database and the table that this row was last seen in: a restored one is another';
    COMMENT ON COLUMN tenant.timeline IS 'the cluster''s, new with every failover and every recovery to a point in time'
    """)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
