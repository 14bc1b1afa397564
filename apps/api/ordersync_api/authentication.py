"""Who calls, and for which administration: from the verified token's memberships, never from a body or a query."""

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen
from starlette.datastructures import Headers

from ordersync_api.problems import Unauthenticated
from ordersync_core.administrations.model import Membership, Role
from ordersync_core.administrations.ports import AdministrationQueries
from ordersync_core.kernel.errors import InvalidInput, NotAllowed, NotFound, Violation

ADMINISTRATION = "X-Administration"


class Tokens(Protocol):
    def subject(self, token: str) -> str:
        """The identity a bearer token speaks for.

        Raises:
            NotAllowed: the token is not to be believed; the text says why and holds nothing of the token.
            TemporaryFailure: nobody can tell now.
        """
        ...


@frozen
class Caller:
    """membership: None where no administration is asked for."""

    subject: str
    membership: Membership | None


def authenticate(headers: Headers, tokens: Tokens) -> str:
    """The identity behind the request; Unauthenticated when there is none."""
    values = headers.getlist("Authorization")
    if not values:
        raise Unauthenticated
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send exactly one access token, as: Authorization: Bearer <token>")
    try:
        return tokens.subject(token.strip())
    except NotAllowed as refused:
        raise Unauthenticated(str(refused)) from None


def authorise(subject: str, headers: Headers, role: Role, administrations: AdministrationQueries) -> Caller:
    """The membership in the administration that the request names, if its role is enough.

    Raises:
        NotFound: the identity is no member of it; the same whether or not it exists.
        NotAllowed: the identity is no member of any, or its role is not enough.
    """
    membership = _chosen(headers.getlist(ADMINISTRATION), administrations.memberships_of(subject))
    if not membership.role.includes(role):
        raise NotAllowed(f"this needs the role {role.value}; yours is {membership.role.value}")
    return Caller(subject, membership)


def _chosen(names: Sequence[str], memberships: Sequence[Membership]) -> Membership:
    if len(names) > 1:
        raise _unclear("must be sent once")
    if names:
        found = next((m for m in memberships if m.administration == names[0]), None)
        if found is None:
            raise NotFound(f"there is no administration {names[0]!r} that you are a member of")
        return found
    if not memberships:
        raise NotAllowed("you are not a member of any administration")
    if len(memberships) > 1:
        raise _unclear("must name one of your administrations, for you are a member of several")
    return memberships[0]


def _unclear(rule: str) -> InvalidInput:
    return InvalidInput(f"the header {ADMINISTRATION} {rule}", (Violation(f"/{ADMINISTRATION}", rule),))
