"""Who was forgotten is known by a keyed hash; nothing of theirs is written any more; a tombstone keeps which ids were one person."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE tenant ADD COLUMN user_hash_key bytea NOT NULL
  DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
ALTER TABLE users ADD COLUMN former_ids text[];
ALTER TABLE forgotten ADD COLUMN asked_at timestamptz;
COMMENT ON COLUMN tenant.user_hash_key IS 'of the hashes in forgotten (P14): as old as they are, and never to change while there are any';
COMMENT ON COLUMN users.former_ids IS 'of a tombstone: the ids that were linked to it, so that a whole person can be forgotten (P14)';
COMMENT ON COLUMN plays.listener IS 'empty: somebody who was forgotten (P14)';
COMMENT ON COLUMN forgotten.asked_at IS 'when the tenant was last to be asked about them because of a token'
"""

# As good as HMAC for keys of one length, and short enough to be put in place by the planner.
FUNCTIONS = """
CREATE FUNCTION keyed_hash(key bytea, user_id text) RETURNS bytea IMMUTABLE PARALLEL SAFE LANGUAGE sql
  RETURN sha256(key || sha256(key || convert_to(user_id, 'UTF8')));

CREATE FUNCTION user_hash(user_id text) RETURNS bytea STABLE PARALLEL SAFE LANGUAGE sql
  RETURN (SELECT keyed_hash(tenant.user_hash_key, user_hash.user_id) FROM tenant);

CREATE FUNCTION refuse_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM forgotten) AND EXISTS (SELECT FROM forgotten WHERE user_hash = user_hash(NEW.user_id)) THEN
    RAISE EXCEPTION 'somebody who was forgotten';
  END IF;
  RETURN NEW;
END $$
"""

# A request looks up who calls and then writes, in two transactions: between the two somebody may be forgotten.
TRIGGERS = "; ".join(
    f"""
CREATE TRIGGER {table}_refuse_forgotten BEFORE INSERT ON {table} FOR EACH ROW
  WHEN (NEW.user_id IS NOT NULL) EXECUTE FUNCTION refuse_forgotten()
"""
    for table in ("user_data", "songs", "playlists", "wishes", "sessions")
)


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(FUNCTIONS)
    op.execute(TRIGGERS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
