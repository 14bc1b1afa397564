from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and a Z: the one spelling of a moment on the wire."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def json_moment(moment: datetime) -> datetime | str:
    """What `orjson.dumps` with `OPT_UTC_Z` spells as `rfc3339` does, and much faster: it leaves out a fraction of 0."""
    utc = moment.astimezone(UTC)
    return utc if utc.microsecond else rfc3339(utc)
