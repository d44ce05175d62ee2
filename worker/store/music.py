"""The music app's tables, and what it wants of Auth0: wishes, pushes under way, pushes done; sessions of its page."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Sequence,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from worker.store.models import Instant, UserId, metadata

# No foreign key leads to `users`: a person's own data does not vanish with a webhook.
user_data = Table(
    "user_data",
    metadata,
    Column("user_id", UserId, primary_key=True),
    Column("fav_genre", Text),
)

songs = Table(
    "songs",
    metadata,
    Column("song_id", BigInteger, Identity(always=True), primary_key=True),
    Column("user_id", UserId, nullable=False),
    Column("songname", Text, nullable=False),
    Column("created_at", Instant, nullable=False, server_default=func.now()),
    Index("songs_user_id_song_id_idx", "user_id", "song_id"),
)

playlists = Table(
    "playlists",
    metadata,
    Column("playlist_id", BigInteger, Identity(always=True), primary_key=True),
    Column(
        "user_id",
        UserId,
        nullable=False,
        comment="the owner, by the id under which it was made; an alias keeps its own (P13)",
    ),
    Column("name", Text, nullable=False),
    Column("featured", Boolean, nullable=False, server_default=text("false")),
    Column("plays", BigInteger, nullable=False, server_default="0", comment="plays that counted"),
    Column("created_at", Instant, nullable=False, server_default=func.now()),
    Index("playlists_user_id_playlist_id_idx", "user_id", "playlist_id"),
    Index("playlists_featured_idx", "playlist_id", postgresql_where=text("featured")),
    postgresql_with={"fillfactor": "70"},  # the counter moves with every batch of plays
)

playlist_songs = Table(
    "playlist_songs",
    metadata,
    Column("playlist_id", BigInteger, ForeignKey("playlists.playlist_id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("song_id", BigInteger, ForeignKey("songs.song_id", ondelete="CASCADE"), nullable=False),
    Index("playlist_songs_song_id_idx", "song_id"),
)

plays = Table(
    "plays",
    metadata,
    Column("playlist_id", BigInteger, primary_key=True),
    Column("listener", UserId, primary_key=True, comment="empty: somebody who was forgotten (P14)"),
    Column("play_id", Uuid, primary_key=True, comment="made by the client, so that a retry counts once"),
    Column("played_at", Instant, nullable=False, comment="when the request arrived (our clock)"),
    Column("counted", Boolean, nullable=False, comment="false: the owner's own, or beyond the day's cap"),
    Index("plays_listener_idx", "listener"),
)

play_days = Table(
    "play_days",
    metadata,
    Column("listener", UserId, primary_key=True),
    Column("playlist_id", BigInteger, primary_key=True),
    Column("day", Date, primary_key=True),
    Column(
        "counted",
        Integer,
        nullable=False,
        comment="plays of this playlist by this listener that counted that UTC day (P25)",
    ),
    postgresql_with={"fillfactor": "70"},
)

wish_number = Sequence("wish_number", metadata=metadata)

wishes = Table(
    "wishes",
    metadata,
    Column("user_id", UserId, primary_key=True),
    Column(
        "attribute",
        Text,
        CheckConstraint("attribute IN ('displayName', 'plan')", name="attribute"),
        primary_key=True,
    ),
    Column("value", Text, nullable=False),
    Column(
        "number",
        BigInteger,
        wish_number,
        nullable=False,
        server_default=wish_number.next_value(),
        comment="new with every wish: a wish is fulfilled only if it is still the one that was pushed (P17)",
    ),
    Column("wished_at", Instant, nullable=False, server_default=func.now()),
)

push_number = Sequence("push_number", metadata=metadata)

pushes = Table(
    "pushes",
    metadata,
    Column("user_id", UserId, primary_key=True),
    Column(
        "number",
        BigInteger,
        push_number,
        nullable=False,
        server_default=push_number.next_value(),
        comment="new with every reason to look",
    ),
    Column("marked_at", Instant, nullable=False, server_default=func.now()),
    Column(
        "last",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="only a default name is wanted, which goes when nothing else does (P17)",
    ),
    Column(
        "due_at",
        Instant,
        nullable=False,
        server_default=func.now(),
        comment="not to be looked at before; infinity: until something changes",
    ),
    Column("rests_until", Instant, comment="not to be looked at before, whatever changes (spacing, backoff)"),
    Column("leased_until", Instant, comment="a pusher is at it until then (P8); also tells its lease from others"),
    Column(
        "attempts", SmallInteger, nullable=False, server_default="0", comment="pushes that failed for this user alone"
    ),
    Column(
        "parked",
        JSONB,
        nullable=False,
        server_default=text("'{}'"),
        comment='P18: {part: {"for": what it was made of, "reason": …}}; tried again when that differs',
    ),
    Column("braked_at", Instant, comment="P19: the loss of a role waits for a human since"),
    Column(
        "removal_allowed",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="a human has answered: the role may go",
    ),
    Index("pushes_last_due_at_idx", "last", "due_at"),
    postgresql_with={
        "fillfactor": "70",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

pushed = Table(
    "pushed",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("user_id", UserId, nullable=False),
    Column(
        "correlation_id",
        Uuid,
        nullable=False,
        unique=True,
        comment="what the PATCH carried and its event brings back (P20)",
    ),
    Column(
        "pushed_at",
        Instant,
        nullable=False,
        server_default=func.now(),
        comment="written before the PATCH is sent, so that a crash cannot hide it",
    ),
    Column("gained", ARRAY(Text), nullable=False, comment="roles that the push added"),
    Column("lost", ARRAY(Text), nullable=False, comment="roles that the push took away (P19 counts them)"),
    Column(
        "allowed",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="a human let its losses pass: the brake does not count them",
    ),
    Column(
        "applied",
        Boolean,
        comment="whether the answer was applied with the version unmoved (P20); null: no answer yet",
    ),
    Index("pushed_user_id_pushed_at_idx", "user_id", "pushed_at"),
    Index("pushed_pushed_at_idx", "pushed_at"),
)

sweep = Table(
    "sweep",
    metadata,
    Column(
        "singleton",
        Boolean,
        CheckConstraint("singleton", name="singleton"),
        primary_key=True,
        server_default=text("true"),
    ),
    Column("position", UserId, nullable=False, comment="the user id that the search for differences has come to (P15)"),
    Column("began_at", Instant, nullable=False, server_default=func.now(), comment="when this round began"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_hash", LargeBinary, primary_key=True, comment="SHA-256 of the id in the cookie"),
    Column("user_id", UserId, comment="null while a login is under way"),
    Column("data", JSONB, nullable=False, server_default=text("'{}'")),
    Column("created_at", Instant, nullable=False, server_default=func.now()),
    Column("seen_at", Instant, nullable=False, server_default=func.now()),
    Column("expires_at", Instant, nullable=False),
    Index("sessions_user_id_idx", "user_id", postgresql_where=text("user_id IS NOT NULL")),
    Index("sessions_expires_at_idx", "expires_at"),
)
