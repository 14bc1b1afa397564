"""Where a resource's rows come from, and in which order they can be walked. No walk sorts what it need not sort."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import total_ordering
from typing import Any, Protocol

from attrs import frozen

from .fields import Value
from .filters import Node, lower_bound, named_values
from .store import ByKey, Company, Row

OrderBy = tuple[tuple[str, bool], ...]
SkipKey = tuple[Value, ...]
"""The values of the last row of the page before: those it was ordered by, its key last."""


class Source(Protocol):
    def after(self, key: SkipKey, condition: Node | None) -> Iterator[Row]:
        """Rows behind `key` (all when it is empty), at least those for which `condition` can hold."""
        ...

    def find(self, key: Value) -> Row | None: ...

    def count(self) -> int: ...


@frozen
class ItemSource:
    """Items by guid. A filter that names codes or guids reads only those."""

    company: Company

    def after(self, key: SkipKey, condition: Node | None) -> Iterator[Row]:
        last = str(key[-1]) if key else ""
        named = self._named(condition)
        if named is None:
            return self.company.items.after(last)
        return iter(sorted((row for row in named if row.id > last), key=lambda row: row.id))

    def find(self, key: Value) -> Row | None:
        return self.company.items.find(str(key))

    def count(self) -> int:
        return len(self.company.items)

    def _named(self, condition: Node | None) -> list[Row] | None:
        codes = named_values(condition, "Code")
        if codes is not None:
            found = [self.company.by_code.get(code) for code in codes]
        elif (ids := named_values(condition, "ID")) is not None:
            found = [self.company.items.find(each) for each in ids]
        else:
            return None
        return [row for row in found if row is not None]


@frozen
class ChangedItemSource:
    """Items by Timestamp: each once, where its newest change put it."""

    company: Company

    def after(self, key: SkipKey, condition: Node | None) -> Iterator[Row]:
        return self.company.timeline.after(_first_timestamp(key, condition))

    def find(self, key: Value) -> Row | None:
        return None

    def count(self) -> int:
        return len(self.company.items)


@frozen
class DeletionSource:
    company: Company
    may_retrieve: bool

    def after(self, key: SkipKey, condition: Node | None) -> Iterator[Row]:
        if not self.may_retrieve:
            return iter(())
        return self.company.deletions_after(_first_timestamp(key, condition))

    def find(self, key: Value) -> Row | None:
        return None

    def count(self) -> int:
        return sum(1 for _ in self.after((), None))


@frozen
class KeptSource:
    """A table of the company that is small and walked by guid."""

    rows: ByKey

    def after(self, key: SkipKey, condition: Node | None) -> Iterator[Row]:
        return self.rows.after(str(key[-1]) if key else "")

    def find(self, key: Value) -> Row | None:
        return self.rows.find(str(key))

    def count(self) -> int:
        return len(self.rows)


@frozen
class MadeSource:
    """A few rows made for this request, in the order of their key."""

    rows: Sequence[Row]
    key: str

    def after(self, key: SkipKey, condition: Node | None) -> Iterator[Row]:
        return (row for row in self.rows if not key or _rank(row.values[self.key]) > _rank(key[-1]))

    def find(self, key: Value) -> Row | None:
        return next((row for row in self.rows if row.values[self.key] == key), None)

    def count(self) -> int:
        return len(self.rows)


@total_ordering
@frozen(eq=False)
class _Descending:
    rank: tuple[bool, Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self.rank == other.rank

    def __lt__(self, other: "_Descending") -> bool:
        return other.rank < self.rank


class Sorted:
    """A source sorted by other properties than its key; nulls come first, the key settles ties.

    Kept between the requests of one walk by `Orders`, so that a page costs a bisection.
    """

    def __init__(self, source: Source, orderby: OrderBy, key: str) -> None:
        self._orderby = (*orderby, (key, False))
        ranked = sorted(((self._place(row), row) for row in source.after((), None)), key=lambda pair: pair[0])
        self._places = [place for place, _ in ranked]
        self._rows = [row for _, row in ranked]
        self._source = source

    def after(self, key: SkipKey, condition: Node | None) -> Iterator[Row]:
        start = bisect_right(self._places, self._ranked(key)) if key else 0
        return iter(self._rows[start:])

    def find(self, key: Value) -> Row | None:
        return self._source.find(key)

    def count(self) -> int:
        return len(self._rows)

    def _place(self, row: Row) -> tuple[Any, ...]:
        return self._ranked([row.values.get(name) for name, _ in self._orderby])

    def _ranked(self, values: Sequence[Value]) -> tuple[Any, ...]:
        pairs = zip(values, self._orderby, strict=True)
        return tuple(_Descending(_rank(value)) if descends else _rank(value) for value, (_, descends) in pairs)


class Orders:
    """The last sorted walk, kept while its company has not changed."""

    def __init__(self) -> None:
        self._kept: tuple[object, Sorted] | None = None

    def by(self, source: Source, orderby: OrderBy, key: str, *, version: object) -> Sorted:
        wanted = (version, orderby, key)
        if self._kept is None or self._kept[0] != wanted:
            self._kept = (wanted, Sorted(source, orderby, key))
        return self._kept[1]


def _first_timestamp(key: SkipKey, condition: Node | None) -> int:
    last = key[-1] if key else None
    bound = lower_bound(condition, "Timestamp")
    return max(last if isinstance(last, int) else 0, bound if bound is not None else 0)


def _rank(value: Value) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)
