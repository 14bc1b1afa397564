from collections.abc import Mapping
from typing import Any
from uuid import UUID

from attrs import field, frozen

from ordersync_core.jobs.model import JobType, Progress
from ordersync_core.kernel.lease import Lease


@frozen(kw_only=True)
class CreateJobDefinition:
    type: JobType
    parameters: Mapping[str, Any] = field(factory=dict)
    cron: str
    time_zone: str


@frozen(kw_only=True)
class DeleteJobDefinition:
    id: UUID


@frozen(kw_only=True)
class EnqueueDue:
    """Make runs of due definitions, at most `limit` at a time."""

    limit: int = 500


@frozen(kw_only=True)
class SendOwedRuns:
    limit: int = 500


@frozen(kw_only=True)
class StartRun:
    type: JobType
    parameters: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class CancelRun:
    id: UUID


@frozen(kw_only=True)
class BeginRun:
    """`holder` names the process that asks for the run's lease."""

    id: UUID
    holder: str


@frozen(kw_only=True)
class BeatRun:
    id: UUID
    lease: Lease
    progress: Progress


@frozen(kw_only=True)
class WakeNext:
    """Wake the oldest run that waits for `holder`."""

    holder: str


@frozen(kw_only=True)
class ResubmitRun:
    id: UUID
