"""The tables that keep the copy right when deliveries are missed: where each pulled feed stands, what was heard, runs over the whole tenant, who was forgotten."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from worker.store.models import Instant, UserId, metadata

feeds = Table(
    "feeds",
    metadata,
    Column("name", Text, primary_key=True, comment='"logs" or "events"'),
    Column("position", Text, comment="a log_id or an offset, as Auth0 gave it; null: start from stands_for"),
    Column(
        "stands_for", Instant, nullable=False, comment="all that happened before this (Auth0's clock) has been read"
    ),
    Column(
        "history",
        JSONB,
        nullable=False,
        server_default=text("'[]'"),
        comment="checkpoints of the log: [log_id, newest date up to it], the newest last (P23)",
    ),
    Column("moved_at", Instant, nullable=False, server_default=func.now()),
    Column(
        "tried_at", Instant, nullable=False, server_default=func.now(), comment="when a pull last began (our clock)"
    ),
    Column("leased_until", Instant, comment="a process is pulling until then"),
    Column("trouble", Text, comment="why the last pull failed; null: it did not"),
)

heard = Table(
    "heard",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("heard_at", Instant, nullable=False, server_default=func.now()),
    Column("hashes", LargeBinary, nullable=False, comment="8 bytes of each log_id in a batch of drained records (P23)"),
    Index("heard_heard_at_idx", "heard_at"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, CheckConstraint("kind IN ('backfill', 'verify', 'reconcile')", name="kind"), nullable=False),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('running', 'complete', 'failed')", name="state"),
        nullable=False,
        server_default="running",
    ),
    Column("started_at", Instant, nullable=False, server_default=func.now()),
    Column("ended_at", Instant),
    Column("leased_until", Instant, comment="a process is at it until then; after that another goes on from position"),
    Column("position", JSONB, nullable=False, server_default=text("'{}'"), comment="where to go on"),
    Column("report", JSONB, nullable=False, server_default=text("'{}'"), comment="what was found so far"),
    Index("runs_kind_started_at_idx", "kind", "started_at"),
)

# Written in bulk and read once, whole: an index would cost more than the look at it.
exported = Table(
    "exported",
    metadata,
    Column("run_id", BigInteger, nullable=False),
    Column("user_id", UserId, nullable=False),
    prefixes=["UNLOGGED"],
)

suspects = Table(
    "suspects",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("user_id", UserId, primary_key=True),
    Column(
        "kind",
        Text,
        nullable=False,
        comment='what a comparison found: "missing", "stale", "different" or "extra"',
    ),
    Column(
        "being_read",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="they were read, or are about to be, while the rest was compared",
    ),
    prefixes=["UNLOGGED"],
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("user_hash", LargeBinary, primary_key=True, comment="keyed hash of a user id (P14)"),
    Column("forgotten_at", Instant, nullable=False, server_default=func.clock_timestamp()),
    Column("keep_out", Boolean, nullable=False, comment="whoever has this id stays out even while Auth0 has them"),
    Column("asked_at", Instant, comment="when the tenant was last to be asked about them because of a token"),
)
