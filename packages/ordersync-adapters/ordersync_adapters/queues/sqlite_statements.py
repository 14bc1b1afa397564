"""Sending, claiming and settling on SQLite, inside a transaction that holds the write lock.

The moment is read after the lock was given, because the wait for it can last seconds.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from ordersync_adapters.queues.sql_rows import Key, to_claim
from ordersync_adapters.sql.engines import now_in_microseconds
from ordersync_adapters.sql.types import from_microseconds, to_json
from ordersync_core.messaging.queue import Claim, Message

_SEND = "INSERT INTO queue_messages (queue, send_id, group_name, body) VALUES (?, ?, ?, ?)"

_EXPIRED = """
    SELECT id FROM queue_messages WHERE queue = :queue AND locked_until <= :now ORDER BY locked_until, id LIMIT 1
"""
_READY = "SELECT id FROM queue_messages WHERE queue = :queue AND locked_until IS NULL ORDER BY id LIMIT :limit"

_CLAIM = """
    UPDATE queue_messages
    SET token = :token, locked_until = :until, deliveries = deliveries + 1, deaths = deaths + (token IS NOT NULL)
    WHERE id IN ({chosen})
    RETURNING id, send_id, group_name, body, deliveries, deaths
"""

_OURS = """
    (id, token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:keys))
    AND locked_until > :now
"""

_RENEW = f"UPDATE queue_messages SET locked_until = :until WHERE {_OURS} RETURNING id, token"
_COMPLETE = f"DELETE FROM queue_messages WHERE {_OURS} RETURNING id, token"
_ABANDON = f"""
    UPDATE queue_messages SET token = NULL, locked_until = CASE WHEN deaths > 0 THEN :now END WHERE {_OURS}
"""
_BURY = f"""
    INSERT INTO queue_dead_letters (queue, send_id, group_name, body, reason, description, dead_at, deliveries)
    SELECT queue, send_id, group_name, body, :reason, :description, :now, deliveries FROM queue_messages WHERE {_OURS}
"""


def send(connection: Connection, queue: str, messages: Sequence[Message]) -> None:
    rows = [(queue, message.send_id, message.group, message.body) for message in messages]
    connection.exec_driver_sql(_SEND, rows)


def claim(connection: Connection, queue: str, *, limit: int, lock: timedelta, token: int) -> list[Claim]:
    now = now_in_microseconds()
    until = now + _microseconds(lock)
    parameters = {"queue": queue, "limit": limit, "now": now, "until": until, "token": token}
    rows = (
        connection.exec_driver_sql(_CLAIM.format(chosen=_EXPIRED), parameters).all()
        or connection.exec_driver_sql(_CLAIM.format(chosen=_READY), parameters).all()
    )
    return [to_claim(row, token, from_microseconds(until)) for row in sorted(rows, key=lambda row: row.id)]


def renew(connection: Connection, keys: Sequence[Key], lock: timedelta) -> dict[Key, datetime]:
    now = now_in_microseconds()
    until = now + _microseconds(lock)
    rows = connection.exec_driver_sql(_RENEW, {"keys": _json(keys), "now": now, "until": until}).all()
    return {Key(row.id, row.token): from_microseconds(until) for row in rows}


def complete(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    parameters = {"keys": _json(keys), "now": now_in_microseconds()}
    return {Key(row.id, row.token) for row in connection.exec_driver_sql(_COMPLETE, parameters).all()}


def abandon(connection: Connection, queue: str, keys: Sequence[Key]) -> None:
    connection.exec_driver_sql(_ABANDON, {"keys": _json(keys), "now": now_in_microseconds()})


def dead_letter(connection: Connection, key: Key, *, reason: str, description: str) -> bool:
    parameters = {"keys": _json([key]), "now": now_in_microseconds(), "reason": reason, "description": description}
    buried = connection.exec_driver_sql(_BURY, parameters).rowcount == 1
    return buried and connection.exec_driver_sql(_COMPLETE, parameters).first() is not None


def _microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _json(keys: Sequence[Key]) -> str:
    return to_json([[key.id, key.token] for key in keys])
