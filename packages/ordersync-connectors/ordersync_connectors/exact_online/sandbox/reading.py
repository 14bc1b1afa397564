"""One page of a resource: which rows, what follows, and what is refused."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from .answers import DataError
from .clock import from_wall_milliseconds
from .fields import Field, Value
from .filters import NO_DEFAULTS, FilterError, compiled, literals
from .odata import QueryOptions
from .resources import Resource, Site
from .sources import Orders, SkipKey, Source
from .store import Company, Row

_USABLE_FILTERS = "Barcode, Class_01 to Class_10, Code, Created, Description, ID, IsSalesItem, Modified, SearchCode"


@frozen
class Page:
    """
    Attributes:
        token: the skip token of the next page; None on the last one.
        top_left: what `$top` leaves for the next pages; None without `$top`.
        total: what `$inlinecount` asks for; None when it does not ask.
    """

    rows: Sequence[Row]
    token: str | None
    top_left: int | None
    total: int | None


def read_page(
    resource: Resource, company: Company, site: Site, options: QueryOptions, orders: Orders, *, page_size: int
) -> Page:
    """Rows that meet the filter, behind the skip token; DataError for a read that Exact Online refuses."""
    refuse_unusable(resource, site, options)
    source = _ordered(resource, resource.source(company, site), company, options, orders)
    test = compiled(options.filter, defaults_of(resource, company)) if options.filter is not None else None
    wanted = page_size if options.top is None else min(page_size, options.top)
    rows: list[Row] = []
    more = False
    for row in source.after(_skip_key(resource, options), options.filter):
        if test is not None and not test(row.values):
            continue
        if len(rows) == wanted:
            more = options.top is None or options.top > wanted
            break
        rows.append(row)
    return Page(
        rows=rows,
        token=_token(resource, rows[-1], options) if more and rows else None,
        top_left=None if options.top is None else options.top - len(rows),
        total=count(resource, company, site, options) if options.count else None,
    )


def count(resource: Resource, company: Company, site: Site, options: QueryOptions) -> int:
    """How many rows meet the filter, whatever `$top` and `$skiptoken` say."""
    source = resource.source(company, site)
    if options.filter is None:
        return source.count()
    test = compiled(options.filter, defaults_of(resource, company))
    return sum(1 for row in source.after((), options.filter) if test(row.values))


def defaults_of(resource: Resource, company: Company) -> Mapping[str, Value]:
    return company.item_defaults if "ItemGroupCode" in resource.fields else NO_DEFAULTS


def refuse_unusable(resource: Resource, site: Site, options: QueryOptions) -> None:
    """DataError 400 for a list without the filter or the `$select` that it needs."""
    if site.settings.mandatory_filter and resource.has_sync_twin and options.filter is None:
        raise DataError(
            400, f"Mandatory filtering applies to this resource. Add a $filter on one of: {_USABLE_FILTERS}."
        )
    # Exact does not say which reads are broad; here: no filter, and more than one page asked for.
    broad = options.filter is None and (options.top is None or options.top > resource.page)
    needed = resource.select == "required" or (resource.select == "for broad reads" and broad)
    if needed and options.select is None and options.top != 1:
        raise DataError(
            400, "The request is too broad. Please add a $select or a $top=1 statement to the query string."
        )


def _ordered(resource: Resource, source: Source, company: Company, options: QueryOptions, orders: Orders) -> Source:
    if not options.orderby or options.orderby == ((resource.key, False),):
        return source
    if resource.ordered_by_timestamp:
        raise DataError(400, "Only $orderby=Timestamp is supported on this resource.")
    version = (company.division, company.version, resource.path)
    return orders.by(source, options.orderby, resource.key, version=version)


def _skip_columns(resource: Resource, options: QueryOptions) -> Sequence[str]:
    """What a skip token holds: the key of the last row, before it the values the rows are ordered by."""
    ordered = [name for name, _ in options.orderby]
    return [resource.key] if ordered in ([], [resource.key]) else [*ordered, resource.key]


def _skip_key(resource: Resource, options: QueryOptions) -> SkipKey:
    if options.skiptoken is None:
        return ()
    try:
        found = tuple(each.value for each in literals(options.skiptoken))
    except FilterError as error:
        raise DataError(400, f"Error in $skiptoken: {error}") from error
    columns = _skip_columns(resource, options)
    if len(found) != len(columns):
        raise DataError(400, f"Error in $skiptoken: {len(columns)} values expected.")
    for value, name in zip(found, columns, strict=True):
        if value is not None and not _same_kind(value, resource.fields[name]):
            raise DataError(400, f"Error in $skiptoken: {value!r} does not fit {name}.")
    return found


def _same_kind(value: Value, field: Field) -> bool:
    texts = field.edm in ("String", "Guid", "Binary")
    return isinstance(value, str) if texts else isinstance(value, int | float)


def _token(resource: Resource, last: Row, options: QueryOptions) -> str:
    columns = _skip_columns(resource, options)
    return ",".join(as_literal(resource.fields[name], last.values.get(name)) for name in columns)


def as_literal(field: Field, value: Value) -> str:
    """A value as it stands in a key, a filter or a skip token."""
    if value is None:
        return "null"
    match field.edm:
        case "Guid":
            return f"guid'{value}'"
        case "String" | "Binary":
            return "'" + str(value).replace("'", "''") + "'"
        case "DateTime" if isinstance(value, int):
            return f"datetime'{from_wall_milliseconds(value).isoformat(timespec='milliseconds')}'"
        case "Int64":
            return f"{value}L"
        case "Boolean":
            return "true" if value else "false"
    return str(value)
