"""Reading a company that changes meanwhile, as laws: laws 11, 17, 18, 20 and 22, on the sandbox."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ordersync_connectors.exact_online.adapter import ExactOnline
from ordersync_connectors.exact_online.sandbox import SandboxSettings
from ordersync_core.connections.ports import OpenConnection, Source, SourcePage
from ordersync_core.flows.handlers import running as run_of_flow
from ordersync_core.jobs.model import RunState
from tests.connectors.exact_online.test_incremental import is_not_behind, numbered
from tests.connectors.exact_online.workplace import FIRST_DAY, TIMEOUT, Site, Workplace, item_file, running, workplace

COUNT = 1_040
"""Items at the beginning: a page of Exact has 1,000 of them."""


class Meddling(ExactOnline):
    """What is left to be done at the source is done before calls of a walk, and what it handed out is kept."""

    def __init__(self, place: Workplace, meddle: Mapping[int, list[Callable[[], object]]]) -> None:
        super().__init__(place.site.clock, allow_other_hosts=True, sleep=place.site.wait, timeout=TIMEOUT)
        self._meddle = meddle
        self._calls = 0
        self.pages: list[SourcePage] = []

    def source(self, entity: str, connection: OpenConnection) -> Source:
        def access_token() -> str:
            self._calls += 1
            for act in self._meddle.get(self._calls, []):
                act()
            return connection.access_token()

        return _Kept(super().source(entity, evolve(connection, access_token=access_token)), self.pages)


@define
class _Kept:
    _source: Source
    _pages: list[SourcePage]

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        for page in self._source.pages(cursor):
            self._pages.append(page)
            yield page

    def named(self, codes: Any) -> Iterator[SourcePage]:
        return self._source.named(codes)


@define
class Company:
    """A company at the sandbox, and the descriptions that its items should have by now."""

    site: Site
    place: Workplace
    items: dict[str, str] = field(factory=lambda: {row["Code"]: row["Description"] for row in numbered(COUNT)})
    writes: int = 0

    def put(self, code: str) -> None:
        self.writes += 1
        self.items[code] = f"written {self.writes}"
        self.site.put(code, Description=self.items[code])

    def remove(self, code: str) -> None:
        if self.items.pop(code, None) is not None:
            self.site.remove(code)

    def sync(self, connector: ExactOnline | None = None, **parameters: Any) -> None:
        place = self.place
        application = place.application if connector is None else place.made_of(place.databases, connector)
        before = place.cursor()
        run = place.work(place.start("ItemSync", confirm_deletions=True, **parameters), application)
        assert run is not None
        assert run.state is RunState.SUCCEEDED, run.reason
        # a complete read begins anew, and ends where its last record lies: what lay beyond may have been removed
        assert parameters.get("complete") or is_not_behind(place.cursor(), before)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("reading")
    file = item_file(folder / "items.csv", numbered(COUNT))
    with running(SandboxSettings(clock=FIRST_DAY, items=file)) as site, workplace(folder / "state", site) as place:
        place.connect()
        company = Company(site, place)
        company.sync()
        assert place.names() == company.items
        yield company


CODES = st.sampled_from(("A0000", "A0001", "A0500", "A0999", "A1000", f"A{COUNT - 1}", "B1", "B2"))
WRITES = st.lists(st.tuples(st.sampled_from(("put", "put", "remove")), CODES), max_size=4)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=WRITES,
    meanwhile=st.dictionaries(st.integers(1, 4), WRITES, max_size=3),
    complete=st.booleans(),
    batch=st.sampled_from((1, 5_000)),
)
def test_what_stays_as_it_is_during_a_read_is_handed_out_once_and_what_changes_is_in_step_after_the_next(
    company: Company,
    before: list[tuple[str, str]],
    meanwhile: dict[int, list[tuple[str, str]]],
    complete: bool,
    batch: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_of_flow, "BATCH", batch)
        for act, code in before:
            getattr(company, act)(code)
        touched = {code for writes in meanwhile.values() for _, code in writes}
        due = set(company.items) if complete else {code for act, code in before if act == "put"} & set(company.items)
        meddling = Meddling(
            company.place,
            {
                call: [partial(getattr(company, act), code) for act, code in writes]
                for call, writes in meanwhile.items()
            },
        )
        company.sync(meddling, complete=complete)
        read = [record.raw["Code"] for page in meddling.pages for record in page.records]
        undisturbed = [code for code in read if code not in touched]
        assert len(undisturbed) == len(set(undisturbed))
        assert set(undisturbed) == due - touched
        company.sync()
        assert company.place.names() == company.items
