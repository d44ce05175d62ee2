"""Where each pull stands, what was heard already, the runs over a whole tenant, and who was forgotten."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE feeds (
  name text NOT NULL,
  position text,
  stands_for timestamptz NOT NULL,
  history jsonb NOT NULL DEFAULT '[]',
  moved_at timestamptz NOT NULL DEFAULT now(),
  tried_at timestamptz NOT NULL DEFAULT now(),
  leased_until timestamptz,
  trouble text,
  CONSTRAINT feeds_pkey PRIMARY KEY (name)
);

CREATE TABLE heard (
  id bigint GENERATED ALWAYS AS IDENTITY,
  heard_at timestamptz NOT NULL DEFAULT now(),
  hashes bytea NOT NULL,
  CONSTRAINT heard_pkey PRIMARY KEY (id)
);
ALTER TABLE heard ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE INDEX heard_heard_at_idx ON heard (heard_at);

CREATE TABLE runs (
  id bigint GENERATED ALWAYS AS IDENTITY,
  kind text NOT NULL,
  state text NOT NULL DEFAULT 'running',
  started_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  leased_until timestamptz,
  position jsonb NOT NULL DEFAULT '{}',
  report jsonb NOT NULL DEFAULT '{}',
  CONSTRAINT runs_pkey PRIMARY KEY (id),
  CONSTRAINT runs_kind_check CHECK (kind IN ('backfill', 'verify', 'reconcile')),
  CONSTRAINT runs_state_check CHECK (state IN ('running', 'complete', 'failed'))
);
CREATE INDEX runs_kind_started_at_idx ON runs (kind, started_at);

-- Not logged: a run that a crash of PostgreSQL ends begins anew.
CREATE UNLOGGED TABLE exported (
  run_id bigint NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  suspect text,
  CONSTRAINT exported_pkey PRIMARY KEY (run_id, user_id)
);

CREATE INDEX inbox_parked_idx ON inbox (id) WHERE state = 'parked';

CREATE TABLE forgotten (
  user_hash bytea NOT NULL,
  forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  keep_out boolean NOT NULL,
  CONSTRAINT forgotten_pkey PRIMARY KEY (user_hash)
)
"""

COMMENTS = """
COMMENT ON COLUMN exported.suspect IS 'what a comparison found: "missing", "stale", "different" or "extra"; null: nothing';
COMMENT ON COLUMN feeds.name IS '"logs" or "events"';
COMMENT ON COLUMN feeds.position IS 'a log_id or an offset, as Auth0 gave it; null: start from stands_for';
COMMENT ON COLUMN feeds.history IS 'checkpoints of the log: [log_id, newest date up to it], the newest last (P23)';
COMMENT ON COLUMN feeds.leased_until IS 'a process is pulling until then';
COMMENT ON COLUMN feeds.stands_for IS 'all that happened before this (Auth0''s clock) has been read';
COMMENT ON COLUMN feeds.tried_at IS 'when a pull last began (our clock)';
COMMENT ON COLUMN feeds.trouble IS 'why the last pull failed; null: it did not';
COMMENT ON COLUMN forgotten.user_hash IS 'keyed hash of a user id (P14)';
COMMENT ON COLUMN forgotten.keep_out IS 'whoever has this id stays out even while Auth0 has them';
COMMENT ON COLUMN heard.hashes IS '8 bytes of each log_id in a batch of drained records (P23)';
COMMENT ON COLUMN runs.leased_until IS 'a process is at it until then; after that another goes on from position';
COMMENT ON COLUMN runs.position IS 'where to go on';
COMMENT ON COLUMN runs.report IS 'what was found so far'
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(COMMENTS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
