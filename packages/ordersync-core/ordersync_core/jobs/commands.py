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
    """Take a run up.

    holder: names the process, for the run's lease.
    message: the send id of the message that stands for it; None: it came by none.
    deaths: of processes that held this message before.
    """

    id: UUID
    holder: str
    message: str | None = None
    deaths: int = 0


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
class FindFailed:
    """Whether a run failed that was last taken up for `message`, a send id."""

    id: UUID
    message: str


@frozen(kw_only=True)
class ResubmitRun:
    id: UUID
