"""Which connection an id names, how far the view's clocks may be apart, and indexes that any profile fits into."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CONNECTIONS = """
CREATE TABLE connections (
  id text COLLATE "C" NOT NULL,
  name text NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT connections_pkey PRIMARY KEY (id)
);
COMMENT ON COLUMN connections.name IS 'by which profiles know it';
COMMENT ON COLUMN connections.seen_at IS 'first seen in a log record (our clock)'
"""

# A btree holds keys up to about 2,700 bytes, and an e-mail address or a linked id may be anything an identity provider says.
INDEXES = """
DROP INDEX users_email_idx;
CREATE INDEX users_email_idx ON users USING hash (email);

CREATE OR REPLACE FUNCTION secondary_ids(identities jsonb) RETURNS text[] IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
  IF identities IS NULL OR jsonb_typeof(identities) <> 'array' OR jsonb_array_length(identities) < 2 THEN RETURN NULL; END IF;
  RETURN ARRAY(SELECT named.id
               FROM jsonb_array_elements(identities) WITH ORDINALITY AS items (item, place)
               CROSS JOIN LATERAL (SELECT (item ->> 'provider') || '|' || (item ->> 'user_id') AS id) AS named
               WHERE place > 1 AND octet_length(named.id) <= 1024 ORDER BY place);
END $$
"""

SKEW = """
ALTER TABLE tenant ADD COLUMN log_date_skew interval NOT NULL DEFAULT '5 s';
COMMENT ON COLUMN tenant.log_date_skew IS 'LOG_DATE_SKEW, for the view live_users';

CREATE OR REPLACE VIEW live_users AS
SELECT u.user_id, u.email, u.email_verified, u.username, u.phone_number, u.phone_verified, u.name, u.given_name,
       u.family_name, u.nickname, u.picture, u.blocked, u.created_at, u.updated_at, u.last_login, u.last_ip,
       u.logins_count, u.identities, u.user_metadata, u.app_metadata, u.multifactor, u.profile,
       coalesce(wished_name.value, u.display_name) AS display_name, u.roles, coalesce(wished_plan.value, u.plan) AS plan,
       u.linked_ids, u.synced_at, seen.login_at AS login_seen_at, greatest(u.last_login, seen.login_at) AS last_seen_at,
       n.user_id IS NOT NULL AS stale
FROM users u
LEFT JOIN news n USING (user_id)
LEFT JOIN wishes wished_name ON wished_name.user_id = u.user_id AND wished_name.attribute = 'displayName'
LEFT JOIN wishes wished_plan ON wished_plan.user_id = u.user_id AND wished_plan.attribute = 'plan'
CROSS JOIN LATERAL (SELECT greatest(u.login_seen_at, n.login_seen_at) AS login_at) AS heard
CROSS JOIN LATERAL (
  SELECT CASE WHEN heard.login_at >= coalesce(u.created_at - coalesce((SELECT log_date_skew FROM tenant), '5 s'), '-infinity')
              THEN heard.login_at END AS login_at
) AS seen
WHERE u.deleted_at IS NULL
"""


def upgrade() -> None:
    op.execute(CONNECTIONS)
    op.execute(INDEXES)
    op.execute(SKEW)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
