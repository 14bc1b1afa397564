"""The Atom XML that a caller gets who does not ask for JSON. Just enough of it to be recognised as a feed."""

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .answers import ATOM, Answer
from .clock import from_wall_milliseconds
from .fields import Field, Value
from .shapes import Shape
from .store import Row

_NAMESPACES = (
    'xmlns="http://www.w3.org/2005/Atom" xmlns:d="http://schemas.microsoft.com/ado/2007/08/dataservices"'
    ' xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"'
)
_DECLARATION = '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'


def feed(shape: Shape, rows: Sequence[Row], next_url: str | None) -> Answer:
    title = shape.resource.path.rpartition("/")[2]
    entries = "".join(_entry(shape, row) for row in rows)
    following = f'<link rel="next" href={quoteattr(next_url)} />' if next_url else ""
    text = (
        f"{_DECLARATION}<feed {_NAMESPACES}><title>{title}</title><id>{escape(shape.collection_uri)}</id>"
        f"{entries}{following}</feed>"
    )
    return Answer(status=200, body=text.encode(), content_type=ATOM, rows=len(rows))


def entry(shape: Shape, row: Row, *, status: int = 200) -> Answer:
    text = _DECLARATION + _entry(shape, row, _NAMESPACES)
    return Answer(status=status, body=text.encode(), content_type=ATOM, rows=1)


def _entry(shape: Shape, row: Row, namespaces: str = "") -> str:
    shown = shape.entity(row)
    properties = "".join(_property(field, shown[field.name], row.values.get(field.name)) for field in shape.columns)
    opening = f"<entry {namespaces}>" if namespaces else "<entry>"
    return (
        f"{opening}<id>{escape(shape.uri(row))}</id><category term={quoteattr(shape.type_name)} />"
        f'<content type="application/xml"><m:properties>{properties}</m:properties></content></entry>'
    )


def _property(field: Field, shown: Any, held: Value) -> str:
    kind = "" if field.edm == "String" else f' m:type="Edm.{field.edm}"'
    if shown is None:
        return f'<d:{field.name}{kind} m:null="true" />'
    if field.edm == "DateTime" and isinstance(held, int):
        shown = from_wall_milliseconds(held).isoformat()
    if isinstance(shown, bool):
        shown = str(shown).lower()
    return f"<d:{field.name}{kind}>{_legal(escape(str(shown)))}</d:{field.name}>"


def _legal(text: str) -> str:
    """XML 1.0 has no way to write most control characters; they are left out."""
    return "".join(character for character in text if character >= " " or character in "\t\n\r")
