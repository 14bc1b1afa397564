from uuid import UUID

from attrs import Attribute, field, frozen

from ordersync_core.flows.model import FlowKind, Guard
from ordersync_core.items.model import ItemCode
from ordersync_core.jobs.model import MAXIMUM_CODES
from ordersync_core.kernel.errors import InvalidInput, Violation


@frozen(kw_only=True)
class SetUpFlow:
    """Create the flow or replace its source. Each real change raises its version, and so builds every record anew."""

    kind: FlowKind
    connection_id: UUID
    aspects: tuple[str, ...] | None = None
    guard: Guard = field(factory=Guard)


@frozen(kw_only=True)
class ItemSync:
    """Run the item flow: all that changed.

    complete: read everything, also what did not change.
    confirm_deletions: apply also more deletions than the guard allows.
    """

    complete: bool = False
    confirm_deletions: bool = False


def _named(_: object, attribute: "Attribute[tuple[ItemCode, ...]]", codes: tuple[ItemCode, ...]) -> None:
    if not 1 <= len(codes) <= MAXIMUM_CODES:
        text = f"must name 1 to {MAXIMUM_CODES} items"
        raise InvalidInput(f"{attribute.name} {text}", (Violation(f"/{attribute.name}", text),))


@frozen(kw_only=True)
class ItemSelectiveSync:
    """Run the item flow for these items alone. Raises InvalidInput for none, or for more than 1,000."""

    codes: tuple[ItemCode, ...] = field(validator=_named)


@frozen(kw_only=True)
class RunFlow:
    """One run of a flow. `codes` None: all that changed; otherwise just these.

    holder: names the process, for the lease of the connection's tokens.
    """

    kind: FlowKind
    run_id: UUID
    holder: str
    codes: tuple[str, ...] | None = None
    complete: bool = False
    confirm_deletions: bool = False


@frozen(kw_only=True)
class RetryQuarantined:
    """Build quarantined records again in the next run: the named ones, or all when `keys` is None."""

    kind: FlowKind
    keys: tuple[str, ...] | None = None
