"""Hypothesis strategies for the core's own types: valid values only, narrowed by keyword.

@given(item=items(codes=st.just(ItemCode("A-1"))))
def test_an_item_survives_its_row(item: Item) -> None: ...
"""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from attrs import evolve
from hypothesis import strategies as st

from ordersync_core.connections.model import AuthorisationState, Connection, ConnectionState
from ordersync_core.connections.ports import SourceRecord, Tombstone
from ordersync_core.flows.model import (
    Counts,
    Execution,
    Flow,
    FlowKind,
    Guard,
    KnownRecord,
    Quarantined,
    RawRecord,
    Step,
)
from ordersync_core.items.model import (
    MAXIMUM_CODE,
    Attachment,
    Image,
    Item,
    ItemCode,
    RelatedUnit,
    RestockOrder,
    Stock,
    VatTariff,
    factor,
)
from ordersync_core.jobs.model import JobDefinition, JobRun, JobType, Progress, RunState
from ordersync_core.jobs.schedule import Schedule, parse
from ordersync_core.kernel.canonical import content_hash
from ordersync_core.kernel.localised import LocalisedText, localised_text
from ordersync_core.kernel.notification import Effect
from ordersync_core.messaging.model import OutboxRow
from ordersync_core.webhooks.health import OPENS_AT, Health
from ordersync_core.webhooks.model import EventTypePattern, Webhook, WebhookState

T = TypeVar("T")

EVENT_TYPES = tuple(
    f"{entity}.{effect}"
    for entity in ("item", "customer", "customer_address", "customer_contact_person", "price_list")
    for effect in ("created", "updated", "deleted")
)

_PRINTABLE = st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S"), include_characters=" ")
_WRITABLE = st.characters(codec="utf-8", exclude_characters="\x00")


# Values that many types share


def moments(
    *, earliest: datetime = datetime(2000, 1, 1, tzinfo=UTC), latest: datetime = datetime(2100, 1, 1, tzinfo=UTC)
) -> st.SearchStrategy[datetime]:
    """In UTC, to the microsecond."""
    return st.datetimes(
        min_value=earliest.astimezone(UTC).replace(tzinfo=None),
        max_value=latest.astimezone(UTC).replace(tzinfo=None),
        timezones=st.just(UTC),
    )


def texts(*, minimum: int = 0, maximum: int = 40) -> st.SearchStrategy[str]:
    """Any characters but the null character and surrogates."""
    return st.text(_WRITABLE, min_size=minimum, max_size=maximum)


def names(*, maximum: int = 40) -> st.SearchStrategy[str]:
    """Printable, trimmed, in normal form C, of at least one character."""
    return st.text(_PRINTABLE, min_size=1, max_size=maximum).map(_tidy).filter(lambda name: 1 <= len(name) <= maximum)


def json_values(*, leaves: int = 8) -> st.SearchStrategy[Any]:
    """What JSON can hold: whole numbers within 53 bits, finite numbers, no null character in a text."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts(),
        lambda children: st.lists(children, max_size=4) | st.dictionaries(texts(), children, max_size=4),
        max_leaves=leaves,
    )


def json_objects(*, leaves: int = 8) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(texts(), json_values(leaves=leaves), max_size=4)


def decimals(
    *, smallest: Decimal = Decimal(-1_000_000), largest: Decimal = Decimal(1_000_000), places: int | None = None
) -> st.SearchStrategy[Decimal]:
    """Finite; `places` fixes the number of decimals, None leaves it between 0 and 6."""
    if places is not None:
        return st.decimals(smallest, largest, allow_nan=False, allow_infinity=False, places=places)
    return st.integers(0, 6).flatmap(lambda some: decimals(smallest=smallest, largest=largest, places=some))


def hashes() -> st.SearchStrategy[str]:
    return st.binary(max_size=8).map(lambda some: content_hash(some.hex()))


# Items


def item_codes(*, alphabet: st.SearchStrategy[str] = _PRINTABLE) -> st.SearchStrategy[ItemCode]:
    return (
        st.text(alphabet, min_size=1, max_size=MAXIMUM_CODE)
        .map(_tidy)
        .filter(lambda code: 1 <= len(code) <= MAXIMUM_CODE)
        .map(ItemCode)
    )


def language_tags() -> st.SearchStrategy[str]:
    return st.sampled_from(("en", "nl", "nl-BE", "de", "fr", "fil", "zh-Hant", "sr-Latn-RS", "es-419"))


def localised_texts(
    *, tags: st.SearchStrategy[str] | None = None, text: st.SearchStrategy[str] | None = None
) -> st.SearchStrategy[LocalisedText]:
    """In no language up to five."""
    return st.dictionaries(_or(tags, language_tags()), _or(text, texts()), max_size=5).map(localised_text)


def related_units() -> st.SearchStrategy[RelatedUnit]:
    factors = decimals(smallest=Decimal("0.001"), largest=Decimal(100_000), places=3).map(factor)
    return st.builds(RelatedUnit, unit=names(maximum=10), factor=factors)


def images() -> st.SearchStrategy[Image]:
    return st.builds(Image, position=st.integers(0, 99), **_files())


def attachments() -> st.SearchStrategy[Attachment]:
    return st.builds(Attachment, **_files())


def stocks() -> st.SearchStrategy[Stock]:
    return st.builds(Stock, warehouse=names(maximum=10), quantity=decimals())


def restock_orders() -> st.SearchStrategy[RestockOrder]:
    return st.builds(
        RestockOrder,
        warehouse=names(maximum=10),
        quantity=decimals(smallest=Decimal(0)),
        expected_date=moments(),
    )


def items(
    *,
    codes: st.SearchStrategy[ItemCode] | None = None,
    updated_at: st.SearchStrategy[datetime | None] | None = None,
) -> st.SearchStrategy[Item]:
    """Each field filled or not; related units, image positions and warehouses of stocks occur once in an item.

    updated_at: None on its own; pass `moments()` for items as they are stored.
    """
    return st.builds(
        Item,
        code=_or(codes, item_codes()),
        name=localised_texts(),
        family_code=st.none() | names(),
        unit=st.none() | names(maximum=10),
        units=_few(related_units(), once_by=lambda related: related.unit),
        vat_tariff=st.none() | st.sampled_from(VatTariff),
        attributes=st.dictionaries(names(maximum=10), json_values(), max_size=3),
        images=_few(images(), once_by=lambda image: image.position),
        attachments=_few(attachments()),
        stocks=_few(stocks(), once_by=lambda stock: stock.warehouse),
        restock_orders=_few(restock_orders()),
        updated_at=_or(updated_at, st.none()),
    )


# Notifications


def effects() -> st.SearchStrategy[Effect]:
    return st.sampled_from(Effect)


@st.composite
def outbox_rows(
    draw: st.DrawFn,
    *,
    entity_types: st.SearchStrategy[str] = st.sampled_from(("item", "customer")),  # noqa: B008 - strategies are values
    keys: st.SearchStrategy[str] = st.sampled_from(("A", "B", "C")),  # noqa: B008
    effects: st.SearchStrategy[Effect] = st.sampled_from(Effect),  # noqa: B008
) -> OutboxRow:
    """As a unit of work writes it: no number, no body, no ticket. An update names at least one changed field."""
    entity_type, effect = draw(entity_types), draw(effects)
    fields = st.sampled_from(("name", "unit", "family_code", "stocks"))
    shown = st.dictionaries(fields, st.integers(0, 9), max_size=4)
    return OutboxRow(
        id=draw(st.uuids()),
        order=draw(st.integers(1, 2**40)),
        event_type=f"{entity_type}.{effect.value}d",
        version=draw(st.integers(1, 3)),
        effect=effect,
        entity_type=entity_type,
        key=draw(keys),
        occurred_at=draw(moments()),
        triggered_by=draw(names()),
        correlation_id=draw(names()),
        traceparent=draw(st.none() | names()),
        before={} if effect is Effect.CREATE else draw(st.dictionaries(fields, st.integers(0, 9), min_size=1)),
        after=None if effect is Effect.DELETE else draw(shown),
    )


# Webhooks


def event_types() -> st.SearchStrategy[str]:
    return st.sampled_from((*EVENT_TYPES, "entity_list.created", "entity_list.updated", "order.created"))


def event_type_patterns() -> st.SearchStrategy[EventTypePattern]:
    """One event type, all of an entity, or all."""
    return (event_types() | event_types().map(lambda type: f"{type.partition('.')[0]}.*") | st.just("*")).map(
        EventTypePattern
    )


@st.composite
def webhooks(draw: st.DrawFn, *, states: st.SearchStrategy[WebhookState] | None = None) -> Webhook:
    """Enabled, or disabled since; in any health."""
    state = draw(_or(states, st.sampled_from(WebhookState)))
    return Webhook(
        id=draw(st.uuids()),
        url=draw(st.sampled_from(("https", "http")))
        + "://"
        + draw(st.from_regex(r"[a-z]{1,20}\.test/[a-z]{0,20}", fullmatch=True)),
        event_types=tuple(draw(st.lists(event_type_patterns(), min_size=1, max_size=4, unique=True))),
        secrets=tuple(draw(st.lists(st.binary(min_size=1, max_size=48), min_size=1, max_size=2))),
        state=state,
        disabled_because=draw(names()) if state is WebhookState.DISABLED else None,
        last_position=draw(st.integers(0, 2**40)),
        created_at=draw(moments()),
        health=draw(healths()),
    )


@st.composite
def healths(draw: st.DrawFn) -> Health:
    """After a success, perhaps with a drain to come; or after failures in a row, the breaker open from the tenth on."""
    failures = draw(st.integers(0, OPENS_AT + 200))
    if failures == 0:
        return Health(recovering=draw(st.booleans()))
    failing_since = draw(moments())
    return Health(
        failures_in_row=failures,
        failing_since=failing_since,
        open_since=failing_since + draw(_durations()) if failures >= OPENS_AT else None,
    )


# Connections and their records


@st.composite
def connections(
    draw: st.DrawFn,
    *,
    connectors: st.SearchStrategy[str] = st.just("exact_online"),  # noqa: B008
    states: st.SearchStrategy[ConnectionState] = st.sampled_from(ConnectionState),  # noqa: B008
) -> Connection:
    """One that is connected has tokens; one that needs consent may have those of an earlier consent."""
    state = draw(states)
    tokens = st.binary(min_size=1, max_size=60)
    return Connection(
        id=draw(st.uuids()),
        connector=draw(connectors),
        name=draw(names()),
        settings=draw(json_objects()),
        secret_settings=draw(st.binary(max_size=60)),
        state=state,
        tokens=draw(tokens if state is ConnectionState.CONNECTED else st.none() | tokens),
        refreshing_since=draw(st.none() | moments()),
        created_at=draw(moments()),
    )


def authorisation_states() -> st.SearchStrategy[AuthorisationState]:
    return st.builds(
        AuthorisationState,
        id=st.uuids(),
        administration=administration_codes(),
        connection_id=st.uuids(),
        identity=names(),
        redirect_uri=st.just("https://ordersync.test/callback"),
        created_at=moments(),
    )


def administration_codes() -> st.SearchStrategy[str]:
    return st.from_regex(r"[a-z][a-z0-9-]{1,39}", fullmatch=True)


def source_versions() -> st.SearchStrategy[int | None]:
    """None, or what fits into 64 bits."""
    return st.none() | st.integers(0, 20) | st.integers(0, 2**63 - 1)


def source_records(
    *,
    keys: st.SearchStrategy[str] | None = None,
    versions: st.SearchStrategy[int | None] | None = None,
    raws: st.SearchStrategy[Mapping[str, Any]] | None = None,
) -> st.SearchStrategy[SourceRecord]:
    return st.builds(
        SourceRecord.of,
        key=_or(keys, names()),
        version=_or(versions, source_versions()),
        raw=_or(raws, json_objects()),
    )


def tombstones(
    *, keys: st.SearchStrategy[str] | None = None, versions: st.SearchStrategy[int | None] | None = None
) -> st.SearchStrategy[Tombstone]:
    return st.builds(Tombstone, key=_or(keys, names()), version=_or(versions, source_versions()))


# Flows


def guards() -> st.SearchStrategy[Guard]:
    return st.builds(
        Guard,
        floor=st.integers(0, 1_000),
        ratio=decimals(smallest=Decimal(0), largest=Decimal(1), places=4),
    )


def flows() -> st.SearchStrategy[Flow]:
    aspects = st.lists(st.sampled_from(("name", "family_code", "unit", "stocks")), min_size=1, unique=True)
    return st.builds(
        Flow,
        kind=st.sampled_from(FlowKind),
        source=st.builds(Step, connection_id=st.uuids(), aspects=aspects.map(tuple)),
        guard=guards(),
        version=st.integers(1, 2**40),
    )


@st.composite
def executions(draw: st.DrawFn, *, kinds: st.SearchStrategy[FlowKind] | None = None) -> Execution:
    """Still at it, or ended; what it read adds up."""
    created, updated, unchanged, quarantined = draw(st.tuples(*[st.integers(0, 2**40)] * 4))
    started_at = draw(moments())
    return Execution(
        run_id=draw(st.uuids()),
        kind=draw(_or(kinds, st.sampled_from(FlowKind))),
        started_at=started_at,
        ended_at=draw(st.none() | st.builds(started_at.__add__, _durations())),
        complete_read=draw(st.booleans()),
        cursor=draw(st.none() | st.dictionaries(names(), st.integers(0, 2**40), max_size=2)),
        answered=tuple(draw(st.lists(names(), max_size=2))),
        counts=Counts(
            read=created + updated + unchanged + quarantined,
            created=created,
            updated=updated,
            deleted=draw(st.integers(0, 2**40)),
            unchanged=unchanged,
            quarantined=quarantined,
        ),
        held=draw(st.integers(0, 2**40)),
    )


@st.composite
def known_records(
    draw: st.DrawFn,
    *,
    keys: st.SearchStrategy[str] | None = None,
    codes: st.SearchStrategy[ItemCode] | None = None,
    flow_versions: st.SearchStrategy[int] = st.integers(1, 5),  # noqa: B008
) -> KnownRecord:
    """Never built, built into an item or quarantined; of its present content and flow version, or earlier ones."""
    hashed = draw(hashes())
    applied = draw(st.booleans())
    return KnownRecord(
        key=draw(_or(keys, names())),
        content_hash=hashed,
        source_version=draw(source_versions()),
        code=draw(st.none() | (_or(codes, item_codes())).map(str)),
        applied_hash=draw(st.just(hashed) | hashes()) if applied else None,
        applied_version=draw(flow_versions) if applied else None,
        quarantined=draw(st.booleans()) if applied else False,
        dropped=draw(st.booleans()),
    )


def raw_records(
    *,
    known: st.SearchStrategy[KnownRecord] | None = None,
    raws: st.SearchStrategy[Mapping[str, Any]] | None = None,
) -> st.SearchStrategy[RawRecord]:
    return st.builds(RawRecord, known=_or(known, known_records()), raw=_or(raws, json_objects()))


def quarantined(*, keys: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Quarantined]:
    return st.builds(Quarantined, key=_or(keys, names()), reason=names(), raw=json_values(), since=moments())


# Jobs


def schedules() -> st.SearchStrategy[Schedule]:
    crons = ("* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "0 6 * * 1-5", "15 3 1 * *", "0 0 29 2 *")
    zones = ("UTC", "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
    return st.builds(parse, st.sampled_from(crons), st.sampled_from(zones))


@st.composite
def job_parameters(
    draw: st.DrawFn, *, codes: st.SearchStrategy[ItemCode] | None = None
) -> tuple[JobType, dict[str, Any]]:
    """A job type and parameters that fit it."""
    type = draw(st.sampled_from(JobType))
    if type in (JobType.ITEM_SELECTIVE_SYNC, JobType.CUSTOMER_SELECTIVE_SYNC):
        return type, {
            "codes": [str(c) for c in draw(st.lists(_or(codes, item_codes()), min_size=1, max_size=4, unique=True))]
        }
    if type is JobType.ITEM_SYNC:
        return type, draw(
            st.fixed_dictionaries({}, optional={"complete": st.booleans(), "confirm_deletions": st.booleans()})
        )
    return type, {}


@st.composite
def job_definitions(draw: st.DrawFn, *, administrations: st.SearchStrategy[str] | None = None) -> JobDefinition:
    """Enabled or not."""
    type, parameters = draw(job_parameters())
    return JobDefinition(
        id=draw(st.uuids()),
        administration=draw(_or(administrations, administration_codes())),
        type=type,
        parameters=parameters,
        schedule=draw(schedules()),
        next_due=draw(st.none() | moments()),
    )


@st.composite
def job_runs(
    draw: st.DrawFn,
    *,
    administrations: st.SearchStrategy[str] | None = None,
    states: st.SearchStrategy[RunState] | None = None,
    ids: st.SearchStrategy[UUID] | None = None,
) -> JobRun:
    """In any state, reached by the run's own transitions; scheduled, or started by somebody."""
    type, parameters = draw(job_parameters())
    created_at = draw(moments())
    run = JobRun(
        id=draw(_or(ids, st.uuids())),
        administration=draw(_or(administrations, administration_codes())),
        type=type,
        parameters=parameters,
        triggered_by=draw(names()),
        correlation_id=draw(names()),
        created_at=created_at,
        ticket_at=created_at + draw(_durations()),
        tickets=draw(st.integers(0, 4)),
    )
    if draw(st.booleans()):
        run = evolve(
            run,
            definition_id=draw(st.uuids()),
            due_at=draw(moments(latest=created_at) if created_at > _START else st.just(_START)),
            missed=draw(st.integers(0, 10_000)),
            triggered_by="schedule",
        )
    return draw(_moved_on(run, draw(_or(states, st.sampled_from(RunState)))))


@st.composite
def _moved_on(draw: st.DrawFn, run: JobRun, state: RunState) -> JobRun:
    if state is RunState.QUEUED:
        return run
    if state is RunState.CANCELLED and draw(st.booleans()):
        return run.cancel(at=run.created_at + draw(_durations()))
    at = run.created_at + draw(_durations())
    progress = st.builds(
        Progress, done=st.integers(0, 2**40), total=st.none() | st.integers(0, 2**40), text=texts(maximum=20)
    )
    run = run.start(at=at).beat(draw(progress), at=at + draw(_durations()))
    at += draw(_durations())
    match state:
        case RunState.WAITING:
            tries = draw(st.integers(0, 5))
            return draw(
                st.just(run.wait_for("flow:item", at=at, reason=draw(names())))
                | st.just(run.wait_until(at + draw(_durations()), reason=draw(names()), tries=tries))
            )
        case RunState.SUCCEEDED:
            return run.succeed(draw(json_objects()), at=at)
        case RunState.FAILED:
            return run.fail(draw(names()), at=at)
        case RunState.CANCELLED:
            return run.cancel(at=at)
        case RunState.MERGED:
            return run.merge_into(evolve(run, id=draw(st.uuids())), at=at)
    return run


_START = datetime(2000, 1, 1, tzinfo=UTC)


def _or(chosen: st.SearchStrategy[T] | None, usual: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    return usual if chosen is None else chosen


def _durations() -> st.SearchStrategy[timedelta]:
    return st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30))


def _tidy(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _files() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "file_name": names(),
        "content_type": st.sampled_from(("image/png", "image/jpeg", "application/pdf")),
        "content_hash": st.binary(min_size=32, max_size=32).map(bytes.hex),
        "blob": names(),
    }


def _few(entries: st.SearchStrategy[Any], *, once_by: Any = None) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(entries, max_size=3, unique_by=once_by).map(tuple)
