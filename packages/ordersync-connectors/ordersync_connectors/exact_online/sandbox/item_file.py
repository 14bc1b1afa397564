"""The file a sandbox takes its items from: CSV, NDJSON or a JSON array, each of them gzipped or not.

Columns are named as Exact names the properties of `logistics/Items`, in any case. `Code` and `Description` have
aliases, because that is what other systems' exports call them. The first broken row stops the reading.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from .fields import ITEM_FIELDS, Field, Value
from .values import BadValue, checked, checked_text

_ALIASES: Mapping[str, Sequence[str]] = {
    "Code": ("item_code", "itemcode", "stockcode", "sku"),
    "Description": ("name", "title"),
}
_SET_BY_THE_SANDBOX = frozenset(
    {"Division", "Creator", "CreatorFullName", "Modifier", "ModifierFullName"}
    | {"Picture", "PictureUrl", "PictureThumbnailUrl"}
)
_BY_LOWER_NAME = {name.lower(): each for name, each in ITEM_FIELDS.items() if name not in _SET_BY_THE_SANDBOX}

ItemRow = dict[str, Value]
"""Property name -> value; properties the file does not have are absent."""


class ItemFileError(Exception):
    """One line: file, row number, reason. Rows are counted as a spreadsheet or an editor counts them, from 1."""


class ItemRows(list[ItemRow]):
    """The rows, in the file's order.

    Attributes:
        warnings: one line for each column that means nothing to the sandbox.
    """

    warnings: tuple[str, ...] = ()


def read_item_file(path: Path) -> ItemRows:
    """All items of the file; ItemFileError on the first row that Exact Online would refuse, or that cannot be read."""
    text = _text(path)
    body = text.lstrip()
    if not body:
        raise ItemFileError(f"{path}: the file is empty")
    as_table = _suffix(path) in {".csv", ".tsv", ".txt"}
    if not as_table and body[0] == "[":
        return _collect(path, _array(path, body))
    if not as_table and body[0] == "{":
        return _collect(path, _lines(path, text))
    return _collect(path, _table(path, text))


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ItemFileError(f"{path}: {error.strerror or error}") from error
    if content[:2] == b"\x1f\x8b" or path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ItemFileError(f"{path}: not a whole gzip file") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise ItemFileError(f"{path}: row {row}: bytes that are not UTF-8") from error


class _Columns:
    """Which property each column stands for, decided once for each set of names."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], dict[str, Field]] = {}
        self.warnings: dict[str, None] = {}

    def of(self, names: Sequence[str]) -> dict[str, Field]:
        key = tuple(names)
        if key not in self._known:
            self._known[key] = self._decide(key)
        return self._known[key]

    def _decide(self, names: tuple[str, ...]) -> dict[str, Field]:
        fields: dict[str, Field] = {}
        for name in names:
            field = _BY_LOWER_NAME.get(name.strip().lower())
            if field is not None and field in fields.values():
                raise BadValue(f"two columns are named {field.name}")
            if field is not None:
                fields[name] = field
        for property_name, aliases in _ALIASES.items():
            self._take_alias(names, fields, ITEM_FIELDS[property_name], aliases)
        for name in names:
            if name not in fields:
                self.warnings.setdefault(f"column {name.strip()!r} is not used", None)
        return fields

    def _take_alias(
        self, names: tuple[str, ...], fields: dict[str, Field], field: Field, aliases: Sequence[str]
    ) -> None:
        if field in fields.values():
            return
        for alias in aliases:
            for name in names:
                if name.strip().lower() == alias:
                    fields[name] = field
                    return


def _collect(path: Path, numbered: Iterable[tuple[int, Mapping[str, Any], bool]]) -> ItemRows:
    """Check rows given as (row number, column -> value, whether values are cells of text)."""
    rows, columns = ItemRows(), _Columns()
    seen: dict[tuple[str, Value], int] = {}
    for number, record, is_text in numbered:
        try:
            row = _row(record, columns.of(tuple(record)), checked_text if is_text else _checked_json)
            _note_keys(row, number, seen)
        except BadValue as reason:
            raise ItemFileError(f"{path}: row {number}: {reason}") from None
        rows.append(row)
    rows.warnings = tuple(columns.warnings)
    return rows


def _note_keys(row: ItemRow, number: int, seen: dict[tuple[str, Value], int]) -> None:
    for name in ("Code", "ID"):
        key = (name, row.get(name))
        if key[1] is not None and seen.setdefault(key, number) != number:
            raise BadValue(f"{name} {key[1]!r} is also in row {seen[key]}")


def _row(record: Mapping[str, Any], fields: Mapping[str, Field], check: Any) -> ItemRow:
    row: ItemRow = {}
    for name, field in fields.items():
        try:
            row[field.name] = check(field, record[name])
        except BadValue as reason:
            raise BadValue(f"{field.name}: {reason}") from None
    for required in ("Code", "Description"):
        value = row.get(required)
        if not isinstance(value, str) or not value.strip():
            raise BadValue(f"{required} is {'empty' if required in row else 'missing'}")
    return row


def _checked_json(field: Field, value: Any) -> Value:
    if field.edm == "DateTime" and isinstance(value, str):
        return checked_text(field, value)
    if field.edm == "Byte" and isinstance(value, bool):
        return int(value)
    return checked(field, value)


def _table(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any], bool]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    number = 1
    try:
        header = next(reader)
        _check_header(path, header)
        for number, cells in enumerate(reader, start=2):
            if not cells:
                continue  # a blank line, usually the last
            if len(cells) != len(header):
                raise ItemFileError(f"{path}: row {number}: {len(cells)} columns, the header has {len(header)}")
            yield number, dict(zip(header, cells, strict=True)), True
    except csv.Error as error:
        raise ItemFileError(f"{path}: row {number + 1}: {error}") from error


def _delimiter(text: str) -> str:
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(",;\t", key=header.count)


def _check_header(path: Path, header: Sequence[str]) -> None:
    try:
        named = {field.name for field in _Columns().of(header).values()}
    except BadValue as reason:
        raise ItemFileError(f"{path}: row 1: {reason}") from None
    if len(set(header)) != len(header):
        raise ItemFileError(f"{path}: row 1: a column name appears twice")
    for required in ("Code", "Description"):
        if required not in named:
            raise ItemFileError(f"{path}: row 1: no header with a column for {required}")


def _lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any], bool]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _object(path, number, _decoded(path, number, line)), False


def _array(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any], bool]]:
    elements = _decoded(path, None, text)
    for number, element in enumerate(elements, start=1):
        yield number, _object(path, number, element), False


def _decoded(path: Path, number: int | None, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        row = text.count("\n", 0, error.pos) + 1 if number is None else number
        raise ItemFileError(f"{path}: row {row}: not JSON: {error.msg}") from None


def _object(path: Path, number: int, element: Any) -> Mapping[str, Any]:
    if not isinstance(element, dict):
        raise ItemFileError(f"{path}: row {number}: not a JSON object")
    return element
