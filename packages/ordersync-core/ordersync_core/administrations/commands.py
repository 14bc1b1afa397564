from attrs import field, frozen

from ordersync_core.administrations.model import Role, administration_code


@frozen(kw_only=True)
class CreateAdministration:
    code: str = field(converter=administration_code)
    name: str


@frozen(kw_only=True)
class GrantMembership:
    identity: str
    administration: str
    role: Role


@frozen(kw_only=True)
class RevokeMembership:
    identity: str
    administration: str
