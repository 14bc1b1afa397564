"""Administrations, memberships and wake-ups: rows of the admin database."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, case, delete, func, insert, select, update

from ordersync_adapters.sql import bulk
from ordersync_adapters.sql.bulk import insert_into
from ordersync_adapters.sql.reads import SqlReads
from ordersync_adapters.sql.tables.administrations import administrations, memberships, wake
from ordersync_adapters.sql.types import POSTGRES
from ordersync_core.administrations.model import Administration, AdministrationState, Membership, Role

WAKE_CHANNEL = "ordersync_wake"
"""On Postgres the admin database notifies this channel when somebody is to be woken."""


def to_row(administration: Administration) -> dict[str, Any]:
    return {
        "code": administration.code,
        "name": administration.name,
        "state": administration.state.value,
        "server": administration.server,
    }


def to_administration(row: Row[Any]) -> Administration:
    return Administration(code=row.code, name=row.name, state=AdministrationState(row.state), server=row.server)


def to_membership(row: Row[Any]) -> Membership:
    return Membership(identity=row.identity, administration=row.administration, role=Role(row.role))


class SqlAdministrations:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, code: str) -> Administration | None:
        statement = select(administrations).where(administrations.c.code == code).with_for_update()
        row = self._connection.execute(statement).one_or_none()
        return None if row is None else to_administration(row)

    def add(self, administration: Administration) -> None:
        self._connection.execute(insert(administrations), to_row(administration))

    def save(self, administration: Administration) -> None:
        row = to_row(administration)
        code = row.pop("code")
        self._connection.execute(update(administrations).where(administrations.c.code == code).values(row))


class SqlMemberships:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def grant(self, membership: Membership) -> None:
        row = {
            "identity": membership.identity,
            "administration": membership.administration,
            "role": membership.role.value,
        }
        bulk.upsert(self._connection, memberships, [row], key=["identity", "administration"])

    def revoke(self, identity: str, administration: str) -> bool:
        statement = delete(memberships).where(
            memberships.c.identity == identity, memberships.c.administration == administration
        )
        return self._connection.execute(statement).rowcount > 0


class SqlWake:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wake(self, due: dict[str, datetime]) -> None:
        if not due:
            return
        statement = insert_into(self._connection, wake)
        earlier = statement.excluded.due_at < wake.c.due_at
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[wake.c.administration],
                # written even where it stays as it is: on SQLite a watcher notices writes, and not what they say
                set_={"due_at": case((earlier, statement.excluded.due_at), else_=wake.c.due_at)},
            ),
            [{"administration": code, "due_at": due[code]} for code in sorted(due)],
        )
        if self._connection.dialect.name == POSTGRES:
            self._connection.execute(select(func.pg_notify(WAKE_CHANNEL, "")))

    def take_due(self, now: datetime) -> list[str]:
        due = select(wake.c.administration).where(wake.c.due_at <= now)
        statement = (
            delete(wake)
            # somebody who is just writing such a row makes it due again
            .where(wake.c.administration.in_(due.with_for_update(skip_locked=True)))
            .returning(wake.c.administration)
        )
        return sorted(self._connection.execute(statement).scalars())


class AdministrationSqlQueries(SqlReads):
    def administrations(self) -> Sequence[Administration]:
        with self._connect() as connection:
            rows = connection.execute(select(administrations).order_by(administrations.c.code)).all()
        return [to_administration(row) for row in rows]

    def administration(self, code: str) -> Administration | None:
        with self._connect() as connection:
            row = connection.execute(select(administrations).where(administrations.c.code == code)).one_or_none()
        return None if row is None else to_administration(row)

    def active(self) -> Sequence[str]:
        statement = select(administrations.c.code).where(_is_active).order_by(administrations.c.code)
        with self._connect() as connection:
            return connection.execute(statement).scalars().all()

    def memberships_of(self, identity: str) -> Sequence[Membership]:
        statement = (
            select(memberships)
            .join(administrations, administrations.c.code == memberships.c.administration)
            .where(memberships.c.identity == identity, _is_active)
            .order_by(memberships.c.administration)
        )
        return self._memberships(statement)

    def members_of(self, administration: str) -> Sequence[Membership]:
        return self._memberships(
            select(memberships).where(memberships.c.administration == administration).order_by(memberships.c.identity)
        )

    def _memberships(self, statement: Select[Any]) -> Sequence[Membership]:
        with self._connect() as connection:
            rows = connection.execute(statement).all()
        return [to_membership(row) for row in rows]


_is_active = administrations.c.state == AdministrationState.ACTIVE.value
