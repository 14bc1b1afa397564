"""Sending, claiming and settling on SQLite, inside a transaction that holds the write lock.

The moment is read after the lock was given, because the wait for it can last seconds.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from operator import itemgetter

from sqlalchemy import Connection

from ordersync_adapters.queues.sql_rows import Key, suspects, to_claim
from ordersync_adapters.sql.engines import now_in_microseconds
from ordersync_adapters.sql.types import from_microseconds, to_json
from ordersync_core.messaging.queue import Claim, Message

_SEND = "INSERT INTO queue_messages (queue, send_id, group_name, body) VALUES (?, ?, ?, ?)"

_DIED_ONCE = """
    SELECT id FROM queue_messages WHERE queue = :queue AND locked_until <= :now AND deaths + (token IS NOT NULL) = 1
    ORDER BY locked_until, id LIMIT :suspects
"""
_DIED_AGAIN = """
    SELECT id FROM queue_messages WHERE queue = :queue AND locked_until <= :now AND deaths + (token IS NOT NULL) > 1
    ORDER BY locked_until, id LIMIT 1
"""
_READY = "SELECT id FROM queue_messages WHERE queue = :queue AND locked_until IS NULL ORDER BY id LIMIT :limit"

_CLAIM = """
    UPDATE queue_messages
    SET token = :token, locked_until = :until, deliveries = deliveries + 1, deaths = deaths + (token IS NOT NULL)
    WHERE id IN ({chosen})
    RETURNING id, send_id, group_name, body, deliveries, deaths
"""
_CLAIMS = tuple(_CLAIM.format(chosen=chosen) for chosen in (_DIED_ONCE, _DIED_AGAIN, _READY))
"""In turn, until one finds something."""

# what was claimed together has one token, and pairs of id and token would take three times as long
_OURS = "id IN (SELECT value FROM json_each(:ids)) AND token = :token AND locked_until > :now"

_RENEW = f"UPDATE queue_messages SET locked_until = :until WHERE {_OURS} RETURNING id"
_COMPLETE = f"DELETE FROM queue_messages WHERE {_OURS} RETURNING id"
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
    parameters = {
        "queue": queue,
        "limit": limit,
        "suspects": suspects(limit),
        "now": now,
        "until": until,
        "token": token,
    }
    for statement in _CLAIMS:
        if rows := connection.exec_driver_sql(statement, parameters).all():
            break
    return [to_claim(row, token, from_microseconds(until)) for row in sorted(rows, key=itemgetter(0))]


def renew(connection: Connection, keys: Sequence[Key], lock: timedelta) -> dict[Key, datetime]:
    now = now_in_microseconds()
    until = now + _microseconds(lock)
    renewed = _ours(connection, _RENEW, keys, {"now": now, "until": until})
    return dict.fromkeys(renewed, from_microseconds(until))


def complete(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    return set(_ours(connection, _COMPLETE, keys, {"now": now_in_microseconds()}))


def abandon(connection: Connection, queue: str, keys: Sequence[Key]) -> None:
    now = now_in_microseconds()
    for token, ids in _by_token(keys).items():
        connection.exec_driver_sql(_ABANDON, {"token": token, "ids": to_json(ids), "now": now})


def dead_letter(connection: Connection, key: Key, *, reason: str, description: str) -> bool:
    ours = {"token": key.token, "ids": to_json([key.id]), "now": now_in_microseconds()}
    letter = {"reason": reason, "description": description}
    buried = connection.exec_driver_sql(_BURY, ours | letter).rowcount == 1
    return buried and connection.exec_driver_sql(_COMPLETE, ours).first() is not None


def _ours(connection: Connection, statement: str, keys: Sequence[Key], values: dict[str, int]) -> Iterator[Key]:
    """Those of the keys that the statement, which answers ids, has found to be ours."""
    for token, ids in _by_token(keys).items():
        found = connection.exec_driver_sql(statement, {"token": token, "ids": to_json(ids)} | values).all()
        yield from (Key(id, token) for (id,) in found)


def _by_token(keys: Sequence[Key]) -> dict[int, list[int]]:
    ids: dict[int, list[int]] = {}
    for id, token in keys:
        ids.setdefault(token, []).append(id)
    return ids


def _microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
