from attrs import frozen

from ordersync_api.calls import Answer, Call
from ordersync_api.cursors import FeedPlace
from ordersync_api.operations import Operations
from ordersync_api.problems import Gone
from ordersync_api.shapes import EventPage
from ordersync_api.values import EventType, Limit
from ordersync_core.kernel.paging import DEFAULT_LIMIT, PageRequest
from ordersync_core.messaging.ports import EventQueries

operations = Operations("event")

BEGINNING = "0"


@frozen(kw_only=True)
class EventsQuery:
    """`after`: the `next_after` of the page before; left out, or 0, for the oldest event that is kept."""

    after: str = BEGINNING
    limit: Limit = Limit(DEFAULT_LIMIT)
    types: tuple[EventType, ...] = ()


@operations.get("/v1/events", answers={200: EventPage}, refuses=(410,))
def list_events(call: Call, query: EventsQuery) -> Answer:
    """The events in the order of their numbers: the same bodies that webhooks get. 410 when events after the place
    have been purged, or when the database was restored since."""
    queries: EventQueries = call.queries()
    cursors, administration = call.shell.cursors, call.administration
    feed = queries.feed()
    place = (
        FeedPlace(0, feed.epoch) if query.after == BEGINNING else FeedPlace.decode(query.after, cursors, administration)
    )
    page = queries.events(PageRequest(limit=query.limit, after=(place.number,)), types=query.types)
    # Asked after the page was read, so that a purge in between cannot go unnoticed.
    oldest = queries.oldest_number() or feed.last_number + 1
    restored = place.epoch != feed.epoch or place.number > feed.last_number
    if restored or (query.after != BEGINNING and place.number + 1 < oldest):
        raise Gone(
            "the database was restored: read the entities again" if restored else "events after this place were purged",
            oldest=oldest,
            next_after=FeedPlace(oldest - 1, feed.epoch).encode(cursors, administration),
        )
    last = page.rows[-1]["sequence"] if page.rows else place.number
    # What the types do not select need not be looked at again, once there is no further page.
    reached = last if page.next is not None else max(last, feed.last_number)
    return Answer(
        body={
            "data": list(page.rows),
            "next_after": FeedPlace(reached, feed.epoch).encode(cursors, administration),
        }
    )
