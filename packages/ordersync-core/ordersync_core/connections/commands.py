from collections.abc import Mapping
from typing import Any
from uuid import UUID

from attrs import field, frozen


@frozen(kw_only=True)
class CreateConnection:
    connector: str
    name: str
    settings: Mapping[str, Any]
    secret_settings: Mapping[str, Any] = field(factory=dict, repr=False)


@frozen(kw_only=True)
class DeleteConnection:
    id: UUID


@frozen(kw_only=True)
class BeginAuthorisation:
    """`redirect_uri` is where the external system sends the person back to: our callback."""

    connection_id: UUID
    redirect_uri: str


@frozen(kw_only=True)
class CompleteAuthorisation:
    """What the external system's redirect carried."""

    state: UUID
    code: str


@frozen(kw_only=True)
class GetAccessToken:
    """`holder` names the process that asks."""

    connection_id: UUID
    holder: str


@frozen(kw_only=True)
class RenewConnections:
    """Use every refresh token that was not used for a week."""

    holder: str
