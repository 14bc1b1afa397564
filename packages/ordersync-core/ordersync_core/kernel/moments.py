from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and a Z: the one spelling of a moment on the wire."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
