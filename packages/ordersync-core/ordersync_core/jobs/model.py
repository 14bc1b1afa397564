"""Job definitions and job runs: when they are due, what state they are in, and what may follow."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from attrs import evolve, field, frozen

from ordersync_core.jobs.schedule import Schedule, missed
from ordersync_core.kernel.errors import Conflict, InvalidInput
from ordersync_core.kernel.ids import derived_id
from ordersync_core.kernel.lease import LEASE
from ordersync_core.kernel.moments import rfc3339

MAXIMUM_CODES = 1_000
MAXIMUM_TRIES = 6
MAXIMUM_DEATHS = 3
FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(hours=1)
ASK_AGAIN = timedelta(minutes=5)
AFTER_LEASE = LEASE + timedelta(seconds=1)
"""A run at work owes a ticket when its process could have lost it, and not while that process beats."""


class JobType(StrEnum):
    ITEM_SYNC = "ItemSync"
    ITEM_SELECTIVE_SYNC = "ItemSelectiveSync"
    CUSTOMER_SYNC = "CustomerSync"
    CUSTOMER_SELECTIVE_SYNC = "CustomerSelectiveSync"
    PRICE_LIST_SYNC = "PriceListSync"
    ORDER_EXPORT = "OrderExport"
    AUDIT_TRAIL_PUBLISH = "AuditTrailPublish"


class RunState(StrEnum):
    QUEUED = "Queued"
    RUNNING = "Running"
    WAITING = "Waiting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    MERGED = "Merged"

    @property
    def ended(self) -> bool:
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.MERGED)


@frozen(kw_only=True)
class JobDefinition:
    """A scheduled job. `next_due` is None while it is disabled."""

    id: UUID
    administration: str
    type: JobType
    parameters: Mapping[str, Any] = field(factory=dict)
    schedule: Schedule
    next_due: datetime | None


@frozen(kw_only=True)
class UnknownJob:
    """A definition whose type this version of OrderSync does not have: a later version, or a mistake, wrote it."""

    id: UUID
    administration: str
    type: str
    next_due: datetime | None


@frozen(kw_only=True)
class Progress:
    """How far a run is: `done` of `total`; total None while nobody knows."""

    done: int = 0
    total: int | None = None
    text: str = ""


@frozen(kw_only=True)
class JobRun:
    """One execution of a job.

    definition_id, due_at: of a scheduled run; both None for one that somebody started.
    missed: due moments before `due_at` that this run stands for too.
    started_at: when its work first began; None before, also while it has only found its flow busy.
    tries: how often it ended in a temporary failure so far; a wait that was asked for is none.
    deaths: how many processes died while they worked on it.
    message: the send id of the message that it was last taken up for, which becomes its dead letter should it fail;
        None before.
    waits_for: what a waiting run waits for, such as "flow:item"; None when it waits for a moment.
    ticket_at: when it owes a ticket; a waiting run's due time; at work, when its lease could have ended; None once it
        ended.
    result: what it did, as JSON; None before it ended.
    reason: why it failed, waits, or was merged; one sentence.
    """

    id: UUID
    administration: str
    type: JobType
    parameters: Mapping[str, Any] = field(factory=dict)
    state: RunState = RunState.QUEUED
    definition_id: UUID | None = None
    due_at: datetime | None = None
    missed: int = 0
    triggered_by: str
    correlation_id: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    heartbeat_at: datetime | None = None
    progress: Progress = field(factory=Progress)
    tries: int = 0
    deaths: int = 0
    message: str | None = None
    waits_for: str | None = None
    merged_into: UUID | None = None
    ticket_at: datetime | None = None
    tickets: int = 0
    result: Mapping[str, Any] | None = None
    reason: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it covers everything, and not only the codes its parameters name."""
        return "codes" not in self.parameters

    @property
    def has_killed(self) -> bool:
        """Whether so many processes died that no other one is put at risk."""
        return self.deaths >= MAXIMUM_DEATHS

    def start(self, *, at: datetime) -> "JobRun":
        """Running; also after its process died, so starting twice is no conflict."""
        self._must_not_have_ended()
        return evolve(
            self,
            state=RunState.RUNNING,
            started_at=self.started_at or at,
            heartbeat_at=at,
            waits_for=None,
            ticket_at=at + AFTER_LEASE,
            tickets=0,
            reason=None,
        )

    def taken_up(self, message: str | None, *, deaths: int) -> "JobRun":
        """For this message; counts the process that died at it, if one did.

        deaths: of processes that held the message, some of which may have died before they touched the run.
        """
        died = self.state is RunState.RUNNING
        return evolve(self, message=message, deaths=max(self.deaths + died, deaths))

    def beat(self, progress: Progress, *, at: datetime) -> "JobRun":
        return evolve(self, progress=progress, heartbeat_at=at, ticket_at=at + AFTER_LEASE)

    def succeed(self, result: Mapping[str, Any], *, at: datetime) -> "JobRun":
        return evolve(self._ended(RunState.SUCCEEDED, at), result=result)

    def fail(self, reason: str, *, at: datetime) -> "JobRun":
        return evolve(self._ended(RunState.FAILED, at), reason=reason)

    def cancel(self, *, at: datetime) -> "JobRun":
        return evolve(self._ended(RunState.CANCELLED, at), reason="cancelled by a person")

    def merge_into(self, other: "JobRun", *, at: datetime) -> "JobRun":
        ended = self._ended(RunState.MERGED, at)
        return evolve(ended, merged_into=other.id, reason=f"run {other.id} does this work too")

    def wait_until(self, moment: datetime, *, reason: str, tries: int) -> "JobRun":
        self._must_not_have_ended()
        return evolve(self, state=RunState.WAITING, ticket_at=moment, tickets=0, reason=reason, tries=tries)

    def wait_for(self, holder: str, *, at: datetime, reason: str) -> "JobRun":
        """Waits until the run that has `holder` ends and wakes it; asks again by itself in case nobody does."""
        self._must_not_have_ended()
        return evolve(
            self, state=RunState.WAITING, waits_for=holder, ticket_at=at + ASK_AGAIN, tickets=0, reason=reason
        )

    def not_started(self) -> "JobRun":
        """As before it was taken up for the first time: it found out that it cannot begin yet."""
        return evolve(self, started_at=None)

    def must_wait_still(self, now: datetime) -> bool:
        """Whether a message for it comes too early: its wait is not over, and nobody owed a ticket yet."""
        return (
            self.state is RunState.WAITING and self.tickets == 0 and self.ticket_at is not None and self.ticket_at > now
        )

    def wake(self, *, at: datetime) -> "JobRun":
        return evolve(self, waits_for=None, ticket_at=at, tickets=0)

    def give_back(self, *, at: datetime) -> "JobRun":
        """Queued again: its process was asked to end."""
        self._must_not_have_ended()
        return evolve(self, state=RunState.QUEUED, ticket_at=at, tickets=0)

    def restart(self, *, at: datetime) -> "JobRun":
        """A failed run that somebody resubmits."""
        if self.state is not RunState.FAILED:
            raise Conflict(f"job run {self.id} is {self.state} and can only be resubmitted after it failed")
        return evolve(
            self, state=RunState.QUEUED, ended_at=None, reason=None, tries=0, deaths=0, ticket_at=at, tickets=0
        )

    def _ended(self, state: RunState, at: datetime) -> "JobRun":
        self._must_not_have_ended()
        return evolve(self, state=state, ended_at=at, ticket_at=None, waits_for=None)

    def _must_not_have_ended(self) -> None:
        if self.state.ended:
            raise Conflict(f"job run {self.id} has ended: {self.state}")


def due_run(
    definition: JobDefinition | UnknownJob, *, now: datetime, ticket_at: datetime, correlation_id: str
) -> tuple[JobRun, JobDefinition]:
    """One run for all moments that have come, and the definition moved on to the next.

    Raises:
        InvalidInput: nothing can be made of it here: its job, or its time zone, is not known.
        Conflict: it is disabled.
    """
    if isinstance(definition, UnknownJob):
        raise InvalidInput(f"{definition.type!r} is not a job of this version")
    if definition.next_due is None:
        raise Conflict(f"job definition {definition.id} is disabled")
    latest, missed_count, next_due = missed(definition.schedule, due=definition.next_due, now=now)
    run = JobRun(
        id=derived_id("run", definition.id, rfc3339(latest)),
        administration=definition.administration,
        type=definition.type,
        parameters=definition.parameters,
        definition_id=definition.id,
        due_at=latest,
        missed=missed_count,
        triggered_by="schedule",
        correlation_id=correlation_id,
        created_at=now,
        ticket_at=ticket_at,
        tickets=1,
    )
    return run, evolve(definition, next_due=next_due)


def retry_at(run: JobRun, *, now: datetime) -> datetime | None:
    """When to try again after a temporary failure, in 1, 2, 4, ... minutes; None once six tries have failed."""
    if run.tries + 1 >= MAXIMUM_TRIES:
        return None
    return now + min(FIRST_RETRY * (1 << run.tries), LONGEST_RETRY)


def absorb(run: JobRun, waiting: Sequence[JobRun], *, at: datetime) -> tuple[JobRun, JobRun] | None:
    """Let a run that already waits do this one's work too: (the waiting one, this one merged), or None.

    A waiting complete sync absorbs any later run of its flow, and does what that one was asked to do besides, unless
    its own work has begun without that; a waiting selective one takes in the codes of later selective ones, up to
    1,000, unless its work has begun: it may be past a code that has changed since.
    """
    asked_besides = {name: True for name, value in run.parameters.items() if value is True}
    for other in waiting:
        if other.id == run.id:
            continue
        if other.is_complete:
            if other.started_at is not None and not asked_besides.items() <= other.parameters.items():
                continue
            taken = evolve(other, parameters={**other.parameters, **asked_besides})
            return taken, run.merge_into(taken, at=at)
        if run.is_complete or other.started_at is not None:
            continue
        codes = sorted({*other.parameters["codes"], *run.parameters["codes"]})
        if len(codes) <= MAXIMUM_CODES:
            taken = evolve(other, parameters={**other.parameters, "codes": codes})
            return taken, run.merge_into(taken, at=at)
    return None


def shown(run: JobRun) -> dict[str, Any]:
    """The run as JSON on the wire."""

    def moment(at: datetime | None) -> str | None:
        return None if at is None else rfc3339(at)

    return {
        "id": str(run.id),
        "type": run.type.value,
        "parameters": dict(run.parameters),
        "state": run.state.value,
        "definition_id": None if run.definition_id is None else str(run.definition_id),
        "due_at": moment(run.due_at),
        "missed": run.missed,
        "triggered_by": run.triggered_by,
        "created_at": moment(run.created_at),
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at),
        "heartbeat_at": moment(run.heartbeat_at),
        "progress": {"done": run.progress.done, "total": run.progress.total, "text": run.progress.text},
        "waits_for": run.waits_for,
        "wait_until": moment(run.ticket_at) if run.state is RunState.WAITING else None,
        "merged_into": None if run.merged_into is None else str(run.merged_into),
        "result": None if run.result is None else dict(run.result),
        "reason": run.reason,
    }
