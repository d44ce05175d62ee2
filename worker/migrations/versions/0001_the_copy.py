"""The copy, its news, and the inbox they come from."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FUNCTIONS = """
CREATE FUNCTION json_strings(value jsonb) RETURNS text[] IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
  IF value IS NULL OR jsonb_typeof(value) <> 'array' THEN RETURN NULL; END IF;
  RETURN ARRAY(SELECT item #>> '{}' FROM jsonb_array_elements(value) WITH ORDINALITY AS items (item, place)
               WHERE jsonb_typeof(item) = 'string' ORDER BY place);
END $$;

CREATE FUNCTION secondary_ids(identities jsonb) RETURNS text[] IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
  IF identities IS NULL OR jsonb_typeof(identities) <> 'array' OR jsonb_array_length(identities) < 2 THEN RETURN NULL; END IF;
  RETURN ARRAY(SELECT (item ->> 'provider') || '|' || (item ->> 'user_id')
               FROM jsonb_array_elements(identities) WITH ORDINALITY AS items (item, place)
               WHERE place > 1 AND item ->> 'provider' IS NOT NULL AND item ->> 'user_id' IS NOT NULL ORDER BY place);
END $$
"""

TABLES = """
CREATE TABLE tenant (
  singleton boolean NOT NULL DEFAULT true,
  domain text NOT NULL,
  copied_since timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT tenant_pkey PRIMARY KEY (singleton),
  CONSTRAINT tenant_singleton_check CHECK (singleton)
);

CREATE TABLE users (
  user_id text COLLATE "C" NOT NULL,
  email text, email_verified boolean, username text, phone_number text, phone_verified boolean,
  name text, given_name text, family_name text, nickname text, picture text, blocked boolean,
  created_at timestamptz, updated_at timestamptz, last_login timestamptz, last_ip text, logins_count bigint,
  identities jsonb, user_metadata jsonb, app_metadata jsonb, multifactor jsonb,
  profile jsonb,
  version bigint NOT NULL DEFAULT 0,
  synced_at timestamptz,
  deleted_at timestamptz,
  login_seen_at timestamptz,
  deletion_seen_at timestamptz,
  deletion_announced boolean,
  display_name text GENERATED ALWAYS AS (
    CASE WHEN jsonb_typeof(user_metadata -> 'displayName') = 'string' THEN user_metadata ->> 'displayName' END) STORED,
  roles text[] GENERATED ALWAYS AS (json_strings(app_metadata -> 'roles')) STORED,
  plan text GENERATED ALWAYS AS (
    CASE WHEN jsonb_typeof(app_metadata -> 'plan') = 'string' THEN app_metadata ->> 'plan' END) STORED,
  linked_ids text[] GENERATED ALWAYS AS (secondary_ids(identities)) STORED,
  CONSTRAINT users_pkey PRIMARY KEY (user_id)
);
CREATE INDEX users_email_idx ON users (email);
CREATE INDEX users_deleted_at_idx ON users (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX users_linked_ids_idx ON users USING gin (linked_ids) WHERE linked_ids IS NOT NULL;

CREATE SEQUENCE news_number;
CREATE TABLE news (
  user_id text COLLATE "C" NOT NULL,
  number bigint NOT NULL DEFAULT nextval('news_number'),
  first_at timestamptz NOT NULL DEFAULT now(),
  last_at timestamptz NOT NULL DEFAULT now(),
  newest timestamptz,
  strong boolean NOT NULL DEFAULT false,
  login_seen_at timestamptz,
  deletion_seen_at timestamptz,
  deletion_announced boolean NOT NULL DEFAULT false,
  due_at timestamptz NOT NULL DEFAULT now(),
  leased_until timestamptz,
  attempts smallint NOT NULL DEFAULT 0,
  braked_at timestamptz,
  CONSTRAINT news_pkey PRIMARY KEY (user_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX news_due_at_idx ON news (due_at);

CREATE TABLE inbox (
  id bigint GENERATED ALWAYS AS IDENTITY,
  source text NOT NULL,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  state text NOT NULL DEFAULT 'pending',
  attempts smallint NOT NULL DEFAULT 0,
  claimed_until timestamptz,
  encoding text NOT NULL DEFAULT 'zstd',
  size integer NOT NULL,
  body bytea,
  error text,
  CONSTRAINT inbox_pkey PRIMARY KEY (id),
  CONSTRAINT inbox_state_check CHECK (state IN ('pending', 'done', 'parked'))
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
-- The web process compresses better and cheaper than PostgreSQL would (zstd against pglz, measured).
ALTER TABLE inbox ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX inbox_source_id_idx ON inbox (source, id) WHERE state = 'pending';
CREATE INDEX inbox_received_at_idx ON inbox (received_at) WHERE state = 'done';

CREATE TABLE parked (
  id bigint GENERATED ALWAYS AS IDENTITY,
  parked_at timestamptz NOT NULL DEFAULT now(),
  source text NOT NULL,
  inbox_id bigint,
  position integer,
  reason text NOT NULL,
  record bytea NOT NULL,
  CONSTRAINT parked_pkey PRIMARY KEY (id)
);

CREATE TABLE counters (
  name text NOT NULL,
  value bigint NOT NULL DEFAULT 0,
  latest_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT counters_pkey PRIMARY KEY (name)
);

CREATE TABLE conditions (
  name text NOT NULL,
  since timestamptz NOT NULL DEFAULT now(),
  latest_at timestamptz NOT NULL DEFAULT now(),
  detail text NOT NULL,
  CONSTRAINT conditions_pkey PRIMARY KEY (name)
);

CREATE TABLE processes (
  name text NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT processes_pkey PRIMARY KEY (name)
)
"""

VIEWS = """
CREATE VIEW live_users AS
SELECT u.user_id, u.email, u.email_verified, u.username, u.phone_number, u.phone_verified, u.name, u.given_name,
       u.family_name, u.nickname, u.picture, u.blocked, u.created_at, u.updated_at, u.last_login, u.last_ip,
       u.logins_count, u.identities, u.user_metadata, u.app_metadata, u.multifactor, u.profile, u.display_name,
       u.roles, u.plan, u.linked_ids, u.synced_at,
       CASE WHEN seen.login_at >= coalesce(u.created_at, '-infinity') - interval '5 s' THEN seen.login_at END AS login_seen_at,
       greatest(u.last_login,
                CASE WHEN seen.login_at >= coalesce(u.created_at, '-infinity') - interval '5 s' THEN seen.login_at END) AS last_seen_at,
       n.user_id IS NOT NULL AS stale
FROM users u
LEFT JOIN news n USING (user_id)
CROSS JOIN LATERAL (SELECT greatest(u.login_seen_at, n.login_seen_at) AS login_at) AS seen
WHERE u.deleted_at IS NULL;

CREATE VIEW aliases AS
SELECT alias.id AS alias_id, u.user_id
FROM users u CROSS JOIN LATERAL unnest(u.linked_ids) AS alias (id)
WHERE u.deleted_at IS NULL AND u.linked_ids IS NOT NULL
  AND NOT EXISTS (SELECT FROM users live WHERE live.user_id = alias.id AND live.deleted_at IS NULL AND live.synced_at IS NOT NULL)
"""

COMMENTS = """
COMMENT ON COLUMN conditions.name IS '"auth0_refused", "reconcile_wanted", "deletions_braked"';
COMMENT ON COLUMN conditions.detail IS 'one sentence for the operator';
COMMENT ON COLUMN inbox.source IS '"logs"; each source is claimed by itself (P22)';
COMMENT ON COLUMN inbox.attempts IS 'P21: committed before decoding';
COMMENT ON COLUMN inbox.claimed_until IS 'a drain is at it until then';
COMMENT ON COLUMN inbox.encoding IS 'of body: "zstd", or "identity" for as it came';
COMMENT ON COLUMN inbox.size IS 'bytes of the body before compression';
COMMENT ON COLUMN inbox.body IS 'null: too large to keep (P24)';
COMMENT ON COLUMN news.number IS 'P5: new with every news';
COMMENT ON COLUMN news.first_at IS 'first arrival (our clock)';
COMMENT ON COLUMN news.last_at IS 'last arrival (our clock)';
COMMENT ON COLUMN news.newest IS 'newest date in the news (Auth0''s clock)';
COMMENT ON COLUMN news.strong IS 'only a strong read will do';
COMMENT ON COLUMN news.login_seen_at IS 'moves to users with the profile';
COMMENT ON COLUMN news.deletion_seen_at IS 'moves to users with the profile';
COMMENT ON COLUMN news.deletion_announced IS 'P19';
COMMENT ON COLUMN news.due_at IS 'not to be read before (settling, backoff)';
COMMENT ON COLUMN news.leased_until IS 'a reader is at it until then (P8)';
COMMENT ON COLUMN news.attempts IS 'reads that failed for this user alone';
COMMENT ON COLUMN news.braked_at IS 'P19: waits for a human since';
COMMENT ON COLUMN parked.inbox_id IS 'the delivery it came in';
COMMENT ON COLUMN parked.position IS 'its place in the delivery, from 0';
COMMENT ON COLUMN parked.reason IS 'says what is wrong; holds no personal data';
COMMENT ON COLUMN parked.record IS 'its bytes as they came';
COMMENT ON COLUMN processes.name IS '"worker@host", "beat"';
COMMENT ON COLUMN tenant.domain IS 'AUTH0_DOMAIN that this database is a copy of';
COMMENT ON COLUMN users.email IS 'not a key: optional, changeable, not unique';
COMMENT ON COLUMN users.blocked IS 'an administrator''s block; brute-force blocks are not part of a profile';
COMMENT ON COLUMN users.updated_at IS 'moves with every login';
COMMENT ON COLUMN users.profile IS 'the whole snapshot as received, unknown attributes included';
COMMENT ON COLUMN users.version IS 'P4: moves with every applied answer';
COMMENT ON COLUMN users.synced_at IS 'when the tenant last confirmed this row (our clock); null: never yet';
COMMENT ON COLUMN users.deleted_at IS 'tombstone: when we learned that the tenant has no such user (our clock)';
COMMENT ON COLUMN users.login_seen_at IS 'date of the newest login record (Auth0''s clock), only forward';
COMMENT ON COLUMN users.deletion_seen_at IS 'newest date of a deletion, link or unlink record (Auth0''s clock)';
COMMENT ON COLUMN users.deletion_announced IS 'whether a record announced the tombstone; null while alive';
COMMENT ON COLUMN users.linked_ids IS 'ids of the secondary identities (P13); null when there are none'
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)
    op.execute(TABLES)
    op.execute(VIEWS)
    op.execute(COMMENTS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
