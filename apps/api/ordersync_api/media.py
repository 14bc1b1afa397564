"""Media types: what a body is, and what an answer may be."""

from starlette.datastructures import Headers

from ordersync_api.problems import NotAcceptable, UnsupportedMediaType

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"


def negotiated(headers: Headers, offered: tuple[str, ...]) -> str:
    """The offered type that the caller likes best; of equals the first. NotAcceptable when it likes none."""
    accept = ",".join(headers.getlist("Accept"))
    if not accept or accept == "*/*":
        return offered[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    liked = max(offered, key=lambda media: (_quality(media, ranges), -offered.index(media)))
    if _quality(liked, ranges) <= 0:
        raise NotAcceptable(offered)
    return liked


def check_content_type(headers: Headers, taken: tuple[str, ...]) -> None:
    """UnsupportedMediaType unless the body is UTF-8 text of one of these types, sent as it is."""
    media, _, parameters = headers.get("Content-Type", "").partition(";")
    charset = parameters.lower().replace('"', "").replace(" ", "")
    encoding = headers.get("Content-Encoding", "identity").lower()
    if media.strip().lower() not in taken or charset not in ("", "charset=utf-8") or encoding != "identity":
        raise UnsupportedMediaType(taken)


def _range(part: str) -> tuple[str, float]:
    """A media range and its quality, 0 to 1 (RFC 9110, section 12.5.1); a malformed quality counts as 0."""
    media, *parameters = part.split(";")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return media.strip().lower(), quality


def _quality(media: str, ranges: list[tuple[str, float]]) -> float:
    """That of the most specific range that fits."""
    kind = media.partition("/")[0]
    for pattern in (media, f"{kind}/*", "*/*"):
        found = [quality for name, quality in ranges if name == pattern]
        if found:
            return max(found)
    return 0.0
