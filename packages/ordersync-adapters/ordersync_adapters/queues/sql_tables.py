"""Where the queues lie in a database.

A message is ready (no lock, no token), claimed (both), or given back although its lock ran out once before (a lock
that has ended, no token): that one is never claimed with fresh ones. A settled message is deleted, so the table stays
small.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

from ordersync_adapters.sql.types import Moment

metadata = MetaData()

# SQLite numbers rows by itself only when the type is INTEGER
_Number = BigInteger().with_variant(Integer(), "sqlite")

messages = Table(
    "queue_messages",
    metadata,
    # never given twice, so that the token of a message that is long gone fits no other
    Column("id", _Number, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("send_id", Text, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("deliveries", Integer, nullable=False, server_default=text("0")),
    Column("deaths", Integer, nullable=False, server_default=text("0")),
    Column("token", BigInteger),
    Column("locked_until", Moment),
    sqlite_autoincrement=True,
    # rows live for moments: clean up after thousands of them, whatever the size of the backlog
    postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 5000},
)
_unlocked = text("locked_until IS NULL")
Index("queue_messages_ready", messages.c.queue, messages.c.id, postgresql_where=_unlocked, sqlite_where=_unlocked)
_locked = text("locked_until IS NOT NULL")
Index(
    "queue_messages_locked",
    messages.c.queue,
    messages.c.locked_until,
    messages.c.id,
    postgresql_where=_locked,
    sqlite_where=_locked,
)

dead_letters = Table(
    "queue_dead_letters",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("send_id", Text, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("dead_at", Moment, nullable=False),
    Column("deliveries", Integer, nullable=False),
    sqlite_autoincrement=True,
)
Index("queue_dead_letters_by_id", dead_letters.c.queue, dead_letters.c.id)
Index("queue_dead_letters_by_age", dead_letters.c.queue, dead_letters.c.dead_at)
