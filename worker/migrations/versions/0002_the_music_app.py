"""What the music app keeps, what it wants of Auth0, and what was pushed there."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE user_data (
  user_id text COLLATE "C" NOT NULL,
  fav_genre text,
  CONSTRAINT user_data_pkey PRIMARY KEY (user_id)
);

CREATE TABLE songs (
  song_id bigint GENERATED ALWAYS AS IDENTITY,
  user_id text COLLATE "C" NOT NULL,
  songname text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT songs_pkey PRIMARY KEY (song_id)
);
CREATE INDEX songs_user_id_song_id_idx ON songs (user_id, song_id);

CREATE TABLE playlists (
  playlist_id bigint GENERATED ALWAYS AS IDENTITY,
  user_id text COLLATE "C" NOT NULL,
  name text NOT NULL,
  featured boolean NOT NULL DEFAULT false,
  plays bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT playlists_pkey PRIMARY KEY (playlist_id)
) WITH (fillfactor = 70);
CREATE INDEX playlists_user_id_playlist_id_idx ON playlists (user_id, playlist_id);
CREATE INDEX playlists_featured_idx ON playlists (playlist_id) WHERE featured;

CREATE TABLE playlist_songs (
  playlist_id bigint NOT NULL,
  position integer NOT NULL,
  song_id bigint NOT NULL,
  CONSTRAINT playlist_songs_pkey PRIMARY KEY (playlist_id, position),
  CONSTRAINT playlist_songs_playlist_id_fkey FOREIGN KEY (playlist_id) REFERENCES playlists (playlist_id) ON DELETE CASCADE,
  CONSTRAINT playlist_songs_song_id_fkey FOREIGN KEY (song_id) REFERENCES songs (song_id) ON DELETE CASCADE
);
CREATE INDEX playlist_songs_song_id_idx ON playlist_songs (song_id);

CREATE TABLE plays (
  playlist_id bigint NOT NULL,
  listener text COLLATE "C" NOT NULL,
  play_id uuid NOT NULL,
  played_at timestamptz NOT NULL,
  counted boolean NOT NULL,
  CONSTRAINT plays_pkey PRIMARY KEY (playlist_id, listener, play_id)
);
CREATE INDEX plays_listener_idx ON plays (listener);

CREATE TABLE play_days (
  listener text COLLATE "C" NOT NULL,
  playlist_id bigint NOT NULL,
  day date NOT NULL,
  counted integer NOT NULL,
  CONSTRAINT play_days_pkey PRIMARY KEY (listener, playlist_id, day)
) WITH (fillfactor = 70);

CREATE SEQUENCE wish_number;
CREATE TABLE wishes (
  user_id text COLLATE "C" NOT NULL,
  attribute text NOT NULL,
  value text NOT NULL,
  number bigint NOT NULL DEFAULT nextval('wish_number'),
  wished_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT wishes_pkey PRIMARY KEY (user_id, attribute),
  CONSTRAINT wishes_attribute_check CHECK (attribute IN ('displayName', 'plan'))
);

CREATE SEQUENCE push_number;
CREATE TABLE pushes (
  user_id text COLLATE "C" NOT NULL,
  number bigint NOT NULL DEFAULT nextval('push_number'),
  marked_at timestamptz NOT NULL DEFAULT now(),
  last boolean NOT NULL DEFAULT false,
  due_at timestamptz NOT NULL DEFAULT now(),
  rests_until timestamptz,
  leased_until timestamptz,
  attempts smallint NOT NULL DEFAULT 0,
  parked jsonb NOT NULL DEFAULT '{}',
  braked_at timestamptz,
  removal_allowed boolean NOT NULL DEFAULT false,
  CONSTRAINT pushes_pkey PRIMARY KEY (user_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX pushes_last_due_at_idx ON pushes (last, due_at);

CREATE TABLE pushed (
  id bigint GENERATED ALWAYS AS IDENTITY,
  user_id text COLLATE "C" NOT NULL,
  correlation_id uuid NOT NULL,
  pushed_at timestamptz NOT NULL DEFAULT now(),
  gained text[] NOT NULL,
  lost text[] NOT NULL,
  allowed boolean NOT NULL DEFAULT false,
  applied boolean,
  CONSTRAINT pushed_pkey PRIMARY KEY (id),
  CONSTRAINT pushed_correlation_id_key UNIQUE (correlation_id)
);
CREATE INDEX pushed_user_id_pushed_at_idx ON pushed (user_id, pushed_at);
CREATE INDEX pushed_pushed_at_idx ON pushed (pushed_at);

CREATE TABLE sweep (
  singleton boolean NOT NULL DEFAULT true,
  position text COLLATE "C" NOT NULL,
  began_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT sweep_pkey PRIMARY KEY (singleton),
  CONSTRAINT sweep_singleton_check CHECK (singleton)
);

CREATE TABLE sessions (
  session_hash bytea NOT NULL,
  user_id text COLLATE "C",
  data jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  CONSTRAINT sessions_pkey PRIMARY KEY (session_hash)
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_expires_at_idx ON sessions (expires_at)
"""

# A chosen name and a plan show at once, whether Auth0 has them yet or not (P17).
VIEW = """
CREATE OR REPLACE VIEW live_users AS
SELECT u.user_id, u.email, u.email_verified, u.username, u.phone_number, u.phone_verified, u.name, u.given_name,
       u.family_name, u.nickname, u.picture, u.blocked, u.created_at, u.updated_at, u.last_login, u.last_ip,
       u.logins_count, u.identities, u.user_metadata, u.app_metadata, u.multifactor, u.profile,
       coalesce(wished_name.value, u.display_name) AS display_name, u.roles, coalesce(wished_plan.value, u.plan) AS plan,
       u.linked_ids, u.synced_at,
       CASE WHEN seen.login_at >= coalesce(u.created_at, '-infinity') - interval '5 s' THEN seen.login_at END AS login_seen_at,
       greatest(u.last_login,
                CASE WHEN seen.login_at >= coalesce(u.created_at, '-infinity') - interval '5 s' THEN seen.login_at END) AS last_seen_at,
       n.user_id IS NOT NULL AS stale
FROM users u
LEFT JOIN news n USING (user_id)
LEFT JOIN wishes wished_name ON wished_name.user_id = u.user_id AND wished_name.attribute = 'displayName'
LEFT JOIN wishes wished_plan ON wished_plan.user_id = u.user_id AND wished_plan.attribute = 'plan'
CROSS JOIN LATERAL (SELECT greatest(u.login_seen_at, n.login_seen_at) AS login_at) AS seen
WHERE u.deleted_at IS NULL
"""

COMMENTS = """
COMMENT ON COLUMN inbox.source IS '"logs" or "plays"; each source is claimed by itself (P22)';
COMMENT ON COLUMN play_days.counted IS 'plays of this playlist by this listener that counted that UTC day (P25)';
COMMENT ON COLUMN playlists.user_id IS 'the owner, by the id under which it was made; an alias keeps its own (P13)';
COMMENT ON COLUMN playlists.plays IS 'plays that counted';
COMMENT ON COLUMN plays.play_id IS 'made by the client, so that a retry counts once';
COMMENT ON COLUMN plays.played_at IS 'when the request arrived (our clock)';
COMMENT ON COLUMN plays.counted IS 'false: the owner''s own, or beyond the day''s cap';
COMMENT ON COLUMN pushed.correlation_id IS 'what the PATCH carried and its event brings back (P20)';
COMMENT ON COLUMN pushed.pushed_at IS 'written before the PATCH is sent, so that a crash cannot hide it';
COMMENT ON COLUMN pushed.gained IS 'roles that the push added';
COMMENT ON COLUMN pushed.lost IS 'roles that the push took away (P19 counts them)';
COMMENT ON COLUMN pushed.allowed IS 'a human let its losses pass: the brake does not count them';
COMMENT ON COLUMN pushed.applied IS 'whether the answer was applied with the version unmoved (P20); null: no answer yet';
COMMENT ON COLUMN pushes.number IS 'new with every reason to look';
COMMENT ON COLUMN pushes.last IS 'only a default name is wanted, which goes when nothing else does (P17)';
COMMENT ON COLUMN pushes.due_at IS 'not to be looked at before; infinity: until something changes';
COMMENT ON COLUMN pushes.rests_until IS 'not to be looked at before, whatever changes (spacing, backoff)';
COMMENT ON COLUMN pushes.leased_until IS 'a pusher is at it until then (P8); also tells its lease from others';
COMMENT ON COLUMN pushes.attempts IS 'pushes that failed for this user alone';
COMMENT ON COLUMN pushes.parked IS 'P18: {part: {"for": what it was made of, "reason": …}}; tried again when that differs';
COMMENT ON COLUMN pushes.braked_at IS 'P19: the loss of a role waits for a human since';
COMMENT ON COLUMN pushes.removal_allowed IS 'a human has answered: the role may go';
COMMENT ON COLUMN sessions.session_hash IS 'SHA-256 of the id in the cookie';
COMMENT ON COLUMN sessions.user_id IS 'null while a login is under way';
COMMENT ON COLUMN sweep.position IS 'the user id that the search for differences has come to (P15)';
COMMENT ON COLUMN sweep.began_at IS 'when this round began';
COMMENT ON COLUMN wishes.number IS 'new with every wish: a wish is fulfilled only if it is still the one that was pushed (P17)'
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEW)
    op.execute(COMMENTS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: what a migration drops does not come back")
