"""Administrations, memberships and wake-ups: rows of the admin database."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from ordersync_adapters.sql.reads import SqlReads
from ordersync_adapters.sql.tables.administrations import administrations, memberships, wake
from ordersync_adapters.sql.types import POSTGRES
from ordersync_adapters.sql.upsert import upsert
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
        statement = upsert(
            self._connection,
            memberships,
            {
                "identity": membership.identity,
                "administration": membership.administration,
                "role": membership.role.value,
            },
        )
        self._connection.execute(statement)

    def revoke(self, identity: str, administration: str) -> bool:
        statement = delete(memberships).where(
            memberships.c.identity == identity, memberships.c.administration == administration
        )
        return self._connection.execute(statement).rowcount > 0


class SqlWake:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wake(self, due: dict[str, datetime]) -> None:
        ...

    def take_due(self, now: datetime) -> list[str]:
        due = select(wake.c.administration).where(wake.c.due_at <= now).order_by(wake.c.administration)
        statement = (
            delete(wake)
            # somebody who is just writing such a row makes it due again
            .where(wake.c.administration.in_(due.with_for_update(skip_locked=True)))
            .returning(wake.c.administration)
        )
        return sorted(self._connection.execute(statement).scalars())
