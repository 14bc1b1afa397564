import re
from enum import StrEnum

from attrs import field, frozen

from ordersync_core.kernel.errors import InvalidInput

_CODE = re.compile(r"[a-z][a-z0-9-]{1,39}")


class AdministrationState(StrEnum):
    CREATING = "Creating"
    ACTIVE = "Active"


class Role(StrEnum):
    """What a member may do: read; change business data; also change connections, flows, webhooks and jobs."""

    READER = "Reader"
    EDITOR = "Editor"
    OWNER = "Owner"

    def includes(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


def administration_code(code: str) -> str:
    """The code itself; InvalidInput unless it is a lower-case slug of 2 to 40 characters."""
    if not _CODE.fullmatch(code):
        raise InvalidInput(
            f"{code!r} is not an administration code: use 2 to 40 lower-case letters, digits and dashes, "
            "starting with a letter"
        )
    return code


@frozen(kw_only=True)
class Administration:
    """One tenant. `server` names where its database lies when there are several; "" is the default one."""

    code: str = field(converter=administration_code)
    name: str
    state: AdministrationState
    server: str = ""


@frozen(kw_only=True)
class Membership:
    """`identity` is the `sub` of an access token."""

    identity: str
    administration: str
    role: Role
