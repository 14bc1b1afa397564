"""Sending, claiming and settling on Postgres: each is one statement and so, in autocommit, one transaction.

`statement_timestamp()` is the moment the statement arrived, by the server's clock, and can be looked up in an index.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter

from sqlalchemy import Connection

from ordersync_adapters.queues.sql_rows import Key, suspects, to_claim
from ordersync_core.messaging.queue import Claim, Message

CHANNEL = "ordersync_queues"

PLAN_BY_INDEX = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"
"""For each session: the planner's picture of a queue is of a moment when it was another size.

Without this it was seen to read and sort all of 300,000 messages for each claim of 100.
"""

_SEND = f"""
    WITH sent AS (
        INSERT INTO queue_messages (queue, send_id, group_name, body)
        SELECT %(queue)s, send_id, group_name, body
        FROM unnest(%(send_ids)b::text[], %(groups)b::text[], %(bodies)b::bytea[])
            WITH ORDINALITY AS message(send_id, group_name, body, place)
        ORDER BY place
    )
    SELECT pg_notify('{CHANNEL}', %(queue)s)
"""

# the common table expressions are evaluated once: as plain subqueries, rows could be locked and then not updated
_CLAIM = """
    WITH died_once AS (
        SELECT id FROM queue_messages
        WHERE queue = %(queue)s AND locked_until <= statement_timestamp() AND deaths + (token IS NOT NULL)::integer = 1
        ORDER BY locked_until, id LIMIT %(suspects)s
        FOR UPDATE SKIP LOCKED
    ), died_again AS (
        SELECT id FROM queue_messages
        WHERE queue = %(queue)s AND locked_until <= statement_timestamp() AND deaths + (token IS NOT NULL)::integer > 1
            AND NOT EXISTS (SELECT FROM died_once)
        ORDER BY locked_until, id LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), ready AS (
        SELECT id FROM queue_messages
        WHERE queue = %(queue)s AND locked_until IS NULL
            AND NOT EXISTS (SELECT FROM died_once) AND NOT EXISTS (SELECT FROM died_again)
        ORDER BY id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ), chosen AS (
        SELECT id FROM died_once UNION ALL SELECT id FROM died_again UNION ALL SELECT id FROM ready
    )
    UPDATE queue_messages AS message
    SET token = %(token)s,
        locked_until = statement_timestamp() + %(lock)s,
        deliveries = deliveries + 1,
        deaths = deaths + (token IS NOT NULL)::integer
    FROM chosen WHERE message.id = chosen.id
    RETURNING message.id, send_id, group_name, body, deliveries, deaths, locked_until
"""

_OURS = """
    unnest(%(ids)s::bigint[], %(tokens)s::bigint[]) AS claim(id, token)
    WHERE message.id = claim.id AND message.token = claim.token AND locked_until > statement_timestamp()
"""

_RENEW = f"""
    UPDATE queue_messages AS message SET locked_until = statement_timestamp() + %(lock)s
    FROM {_OURS}
    RETURNING message.id, message.token, locked_until
"""

_COMPLETE = f"DELETE FROM queue_messages AS message USING {_OURS} RETURNING message.id, message.token"

_ABANDON = f"""
    WITH given_back AS (
        UPDATE queue_messages AS message
        SET token = NULL, locked_until = CASE WHEN deaths > 0 THEN statement_timestamp() END
        FROM {_OURS}
    )
    SELECT pg_notify('{CHANNEL}', %(queue)s)
"""

_DEAD_LETTER = """
    WITH dead AS (
        DELETE FROM queue_messages
        WHERE id = %(id)s AND token = %(token)s AND locked_until > statement_timestamp()
        RETURNING queue, send_id, group_name, body, deliveries
    )
    INSERT INTO queue_dead_letters (queue, send_id, group_name, body, reason, description, dead_at, deliveries)
    SELECT queue, send_id, group_name, body, %(reason)s, %(description)s, statement_timestamp(), deliveries FROM dead
"""


def send(connection: Connection, queue: str, messages: Sequence[Message]) -> None:
    connection.exec_driver_sql(
        _SEND,
        {
            "queue": queue,
            "send_ids": [message.send_id for message in messages],
            "groups": [message.group for message in messages],
            "bodies": [message.body for message in messages],
        },
    )


def claim(connection: Connection, queue: str, *, limit: int, lock: timedelta, token: int) -> list[Claim]:
    parameters = {"queue": queue, "limit": limit, "suspects": suspects(limit), "lock": lock, "token": token}
    rows = connection.exec_driver_sql(_CLAIM, parameters).all()
    return [to_claim(row, token, row[-1].astimezone(UTC)) for row in sorted(rows, key=itemgetter(0))]


def renew(connection: Connection, keys: Sequence[Key], lock: timedelta) -> dict[Key, datetime]:
    rows = connection.exec_driver_sql(_RENEW, {**_columns(keys), "lock": lock}).all()
    return {Key(row.id, row.token): row.locked_until.astimezone(UTC) for row in rows}


def complete(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    return {Key(row.id, row.token) for row in connection.exec_driver_sql(_COMPLETE, _columns(keys)).all()}


def abandon(connection: Connection, queue: str, keys: Sequence[Key]) -> None:
    connection.exec_driver_sql(_ABANDON, {**_columns(keys), "queue": queue})


def dead_letter(connection: Connection, key: Key, *, reason: str, description: str) -> bool:
    parameters = {"id": key.id, "token": key.token, "reason": reason, "description": description}
    return connection.exec_driver_sql(_DEAD_LETTER, parameters).rowcount == 1


def _columns(keys: Sequence[Key]) -> dict[str, list[int]]:
    return {"ids": [key.id for key in keys], "tokens": [key.token for key in keys]}
