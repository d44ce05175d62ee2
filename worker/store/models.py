"""The tables, as SQLAlchemy sees them; the migrations make them (a test keeps the two equal).

A row of `users` is one Auth0 user id: the profile as the tenant last said it, then our own columns. What is still to be
done about a user is a mark in `news`: a narrow table, because marks change with every login and profiles are wide
(measured 2.5 to 5 times faster than marking the profile's row).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

# Byte order: ids are opaque and case-sensitive, and every writer locks them in this one order.
UserId = Text(collation="C")
Instant = DateTime(timezone=True)

tenant = Table(
    "tenant",
    metadata,
    Column(
        "singleton",
        Boolean,
        CheckConstraint("singleton", name="singleton"),
        primary_key=True,
        server_default=text("true"),
    ),
    Column("domain", Text, nullable=False, comment="AUTH0_DOMAIN that this database is a copy of"),
    Column("copied_since", Instant, nullable=False, server_default=func.now()),
    Column(
        "log_date_skew",
        Interval,
        nullable=False,
        server_default=text("'5 s'"),
        comment="LOG_DATE_SKEW, for the view live_users",
    ),
    Column(
        "user_hash_key",
        LargeBinary,
        nullable=False,
        server_default=text("uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())"),
        comment="of the hashes in forgotten (P14): as old as they are, and never to change while there are any",
    ),
    Column(
        "place",
        Text,
        comment="the cluster, the database and the table that this row was last seen in: a restored one is another",
    ),
    Column(
        "timeline",
        Integer,
        comment="the cluster's, new with every failover and every recovery to a point in time",
    ),
)

connections = Table(
    "connections",
    metadata,
    Column("id", UserId, primary_key=True),
    Column("name", Text, nullable=False, comment="by which profiles know it"),
    Column(
        "seen_at", Instant, nullable=False, server_default=func.now(), comment="first seen in a log record (our clock)"
    ),
)

users = Table(
    "users",
    metadata,
    Column("user_id", UserId, primary_key=True),
    # Auth0's root attributes, under Auth0's names.
    Column("email", Text, comment="not a key: optional, changeable, not unique"),
    Column("email_verified", Boolean),
    Column("username", Text),
    Column("phone_number", Text),
    Column("phone_verified", Boolean),
    Column("name", Text),
    Column("given_name", Text),
    Column("family_name", Text),
    Column("nickname", Text),
    Column("picture", Text),
    Column("blocked", Boolean, comment="an administrator's block; brute-force blocks are not part of a profile"),
    Column("created_at", Instant),
    Column("updated_at", Instant, comment="moves with every login"),
    Column("last_login", Instant),
    Column("last_ip", Text),
    Column("logins_count", BigInteger),
    Column("identities", JSONB),
    Column("user_metadata", JSONB),
    Column("app_metadata", JSONB),
    Column("multifactor", JSONB),
    Column("profile", JSONB, comment="the whole snapshot as received, unknown attributes included"),
    # Ours.
    Column("version", BigInteger, nullable=False, server_default="0", comment="P4: moves with every applied answer"),
    Column("synced_at", Instant, comment="when the tenant last confirmed this row (our clock); null: never yet"),
    Column("deleted_at", Instant, comment="tombstone: when we learned that the tenant has no such user (our clock)"),
    Column("login_seen_at", Instant, comment="date of the newest login record (Auth0's clock), only forward"),
    Column("deletion_seen_at", Instant, comment="newest date of a deletion, link or unlink record (Auth0's clock)"),
    Column("deletion_announced", Boolean, comment="whether a record announced the tombstone; null while alive"),
    Column(
        "former_ids",
        ARRAY(Text),
        comment="of a tombstone: the ids that were linked to it, so that a whole person can be forgotten (P14)",
    ),
    # Generated, so that plain SQL can join on them.
    Column(
        "display_name",
        Text,
        Computed(
            "CASE WHEN jsonb_typeof(user_metadata -> 'displayName') = 'string' THEN user_metadata ->> 'displayName' END",
            persisted=True,
        ),
    ),
    Column("roles", ARRAY(Text), Computed("json_strings(app_metadata -> 'roles')", persisted=True)),
    Column(
        "plan",
        Text,
        Computed(
            "CASE WHEN jsonb_typeof(app_metadata -> 'plan') = 'string' THEN app_metadata ->> 'plan' END", persisted=True
        ),
    ),
    Column(
        "linked_ids",
        ARRAY(Text),
        Computed("secondary_ids(identities)", persisted=True),
        comment="ids of the secondary identities (P13); null when there are none",
    ),
    Index(
        "users_linked_ids_idx",
        "linked_ids",
        postgresql_using="gin",
        postgresql_where=text("linked_ids IS NOT NULL"),
    ),
    Index("users_email_idx", "email", postgresql_using="hash"),  # fits any length
    Index("users_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
)

news_number = Sequence("news_number", metadata=metadata)

news = Table(
    "news",
    metadata,
    Column("user_id", UserId, primary_key=True),
    Column(
        "number",
        BigInteger,
        news_number,
        nullable=False,
        server_default=news_number.next_value(),
        comment="P5: new with every news",
    ),
    Column("first_at", Instant, nullable=False, server_default=func.now(), comment="first arrival (our clock)"),
    Column("last_at", Instant, nullable=False, server_default=func.now(), comment="last arrival (our clock)"),
    Column("newest", Instant, comment="newest date in the news (Auth0's clock)"),
    Column("strong", Boolean, nullable=False, server_default=text("false"), comment="only a strong read will do"),
    Column("login_seen_at", Instant, comment="moves to users with the profile"),
    Column("deletion_seen_at", Instant, comment="moves to users with the profile"),
    Column("deletion_announced", Boolean, nullable=False, server_default=text("false"), comment="P19"),
    Column(
        "due_at",
        Instant,
        nullable=False,
        server_default=func.now(),
        comment="not to be read before (settling, backoff)",
    ),
    Column("leased_until", Instant, comment="a reader is at it until then (P8)"),
    Column(
        "attempts", SmallInteger, nullable=False, server_default="0", comment="reads that failed for this user alone"
    ),
    Column("braked_at", Instant, comment="P19: waits for a human since"),
    Index("news_due_at_idx", "due_at"),
    # Marks come and go with every login: leave room for updates in place and clean up early.
    postgresql_with={
        "fillfactor": "70",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("source", Text, nullable=False, comment='"logs" or "plays"; each source is claimed by itself (P22)'),
    Column("received_at", Instant, nullable=False, server_default=func.clock_timestamp()),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('pending', 'done', 'parked')", name="state"),
        nullable=False,
        server_default="pending",
    ),
    Column("attempts", SmallInteger, nullable=False, server_default="0", comment="P21: committed before decoding"),
    Column("claimed_until", Instant, comment="a drain is at it until then"),
    Column(
        "encoding", Text, nullable=False, server_default="zstd", comment='of body: "zstd", or "identity" for as it came'
    ),
    Column("size", Integer, nullable=False, comment="bytes of the body before compression"),
    Column("body", LargeBinary, comment="null: too large to keep (P24)"),
    Column("error", Text),
    Index("inbox_source_id_idx", "source", "id", postgresql_where=text("state = 'pending'")),
    Index("inbox_parked_idx", "id", postgresql_where=text("state = 'parked'")),
    Index("inbox_received_at_idx", "received_at", postgresql_where=text("state = 'done'")),
    # A queue: every row is updated twice and deleted once. Clean up by count, not by a share of a week's rows.
    postgresql_with={
        "fillfactor": "85",
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_insert_scale_factor": "0",
        "autovacuum_vacuum_insert_threshold": "20000",
        "autovacuum_analyze_scale_factor": "0",
        "autovacuum_analyze_threshold": "20000",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

parked = Table(
    "parked",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("parked_at", Instant, nullable=False, server_default=func.now()),
    Column("source", Text, nullable=False),
    Column("inbox_id", BigInteger, comment="the delivery it came in"),
    Column("position", Integer, comment="its place in the delivery, from 0"),
    Column("reason", Text, nullable=False, comment="says what is wrong; holds no personal data"),
    Column("record", LargeBinary, nullable=False, comment="its bytes as they came"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False, server_default="0"),
    Column("latest_at", Instant, nullable=False, server_default=func.now()),
)

conditions = Table(
    "conditions",
    metadata,
    Column("name", Text, primary_key=True, comment='"auth0_refused", "reconcile_wanted", "deletions_braked"'),
    Column("since", Instant, nullable=False, server_default=func.now()),
    Column("latest_at", Instant, nullable=False, server_default=func.now()),
    Column("detail", Text, nullable=False, comment="one sentence for the operator"),
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("source", Text, primary_key=True, comment='as in inbox; "probe" for an attempt to look'),
    Column("arrived_at", Instant, nullable=False, comment="when some of it that was drained last came (our clock)"),
    Column("dated_at", Instant, comment="newest date of a user's event among it (Auth0's clock); events only"),
)

processes = Table(
    "processes",
    metadata,
    Column("name", Text, primary_key=True, comment='"worker@host", "beat"'),
    Column("seen_at", Instant, nullable=False, server_default=func.now()),
)
