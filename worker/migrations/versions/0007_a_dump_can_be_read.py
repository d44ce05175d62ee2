"""Lets a dump of data alone be read in: `pg_dump` has it read with no search path, in which a trigger found no table."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER FUNCTION refuse_forgotten() SET search_path FROM CURRENT")


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
