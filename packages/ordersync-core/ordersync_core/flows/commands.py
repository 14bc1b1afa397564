from uuid import UUID

from attrs import field, frozen, validators

from ordersync_core.flows.model import FlowKind, Guard
from ordersync_core.items.model import ItemCode
from ordersync_core.jobs.model import MAXIMUM_CODES


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

    complete: forget the cursor and read everything.
    confirm_deletions: apply also more deletions than the guard allows.
    """

    complete: bool = False
    confirm_deletions: bool = False


@frozen(kw_only=True)
class ItemSelectiveSync:
    codes: tuple[ItemCode, ...] = field(validator=[validators.min_len(1), validators.max_len(MAXIMUM_CODES)])


@frozen(kw_only=True)
class RunFlow:
    """One run of a flow. `codes` None: all that changed; otherwise just these.

    holder: names the process, for the flow's lease.
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
