"""What a run reads, leaves alone and deletes, at a source that changes between runs and during them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ordersync_connectors.exact_online.adapter import ExactOnline
from ordersync_connectors.exact_online.sandbox import SandboxSettings
from ordersync_core.connections.ports import OpenConnection, Source, SourcePage, SourceRecord, Tombstone
from ordersync_core.flows.commands import SetUpFlow
from ordersync_core.flows.handlers import running as run_of_flow
from ordersync_core.flows.handlers.setting_up import set_up_flow
from ordersync_core.flows.model import FlowKind
from ordersync_core.jobs.model import JobRun, RunState
from ordersync_core.kernel.application import Application
from tests.connectors.exact_online.workplace import (
    CONTEXT,
    FIRST_DAY,
    TIMEOUT,
    Killed,
    Site,
    Workplace,
    item_file,
    running,
    workplace,
)

Counts = Mapping[str, int]


def numbered(count: int) -> Iterator[Mapping[str, str]]:
    return ({"Code": f"A{number:04}", "Description": f"Item {number}"} for number in range(count))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An administration without a connection: made once, because its tables take most of a test's time."""
    folder = tmp_path_factory.mktemp("incremental") / "template"
    with running() as site, workplace(folder, site):
        return folder


@pytest.fixture
def start(template: Path, tmp_path: Path) -> Iterator[Callable[..., Workplace]]:
    """Starts a sandbox with so many items, and connects an administration to it; its first sync has been run."""
    with ExitStack() as stack:

        def started(count: int = 40, **settings: Any) -> Workplace:
            file = item_file(tmp_path / "items.csv", numbered(count))
            site = stack.enter_context(running(SandboxSettings(clock=FIRST_DAY, items=file, **settings)))
            place = stack.enter_context(workplace(tmp_path / "state", site, template))
            place.connect()
            assert counts(place.sync())["created"] == count
            return place

        yield started


@pytest.fixture(params=[5_000, 1], ids=["one batch", "a batch for each page"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_of_flow, "BATCH", request.param)


def counts(run: JobRun) -> Counts:
    assert run.state is RunState.SUCCEEDED, run.reason
    result = dict(run.result or {})
    assert result["read"] == sum(result[name] for name in ("created", "updated", "unchanged", "quarantined"))
    return result


def nonzero(run: JobRun) -> Counts:
    return {name: count for name, count in counts(run).items() if count}


def rows_read(site: Site, after: int) -> int:
    return sum(entry["rows"] for entry in site.log(after))


# changes


def test_nothing_changed_so_nothing_is_read(start: Callable[..., Workplace]) -> None:
    place = start()
    before, cursor = place.site.calls, place.cursor()
    assert place.told(lambda: nonzero(place.sync())) == []
    assert place.site.paths(before) == ["sync/Logistics/Items", "sync/Deleted"]
    assert rows_read(place.site, before) == 0
    assert place.cursor() == cursor


def test_only_what_changed_is_read(start: Callable[..., Workplace]) -> None:
    place = start()
    codes = place.site.change(5)
    place.site.put("B1", Description="New")
    before = place.site.calls
    assert nonzero(place.sync()) == {"read": 6, "updated": 5, "created": 1}
    assert rows_read(place.site, before) == 6
    assert sorted(place.events()[40:]) == [("created", "B1"), *sorted(("updated", code) for code in codes)]
    assert place.names()["B1"] == "New"
    assert all(place.names()[code].endswith("(r1)") for code in codes)


def test_a_change_of_what_is_not_kept_is_no_change(start: Callable[..., Workplace]) -> None:
    place = start()
    place.site.put("A0001", Notes="for the bookkeeper", StandardSalesPrice=5)
    before = place.cursor()
    assert place.told(lambda: nonzero(place.sync())) == []
    assert place.cursor()["items"] > before["items"]


def test_a_complete_read_of_an_unchanged_source_writes_nothing(start: Callable[..., Workplace]) -> None:
    """Rule 1."""
    place = start()
    tables = place.tables()
    run = place.sync(complete=True)
    assert nonzero(run) == {"read": 40, "unchanged": 40}
    assert place.tables() == tables


def test_a_changed_code_is_another_item(start: Callable[..., Workplace]) -> None:
    place = start()
    item = place.site.steer("PUT", "items/A0001", {"Notes": "x"})
    place.site.http.put(
        f"{place.site.url}/api/v1/1/logistics/Items(guid'{item['id']}')",
        json={"Code": "Z1"},
        headers={"Authorization": f"Bearer {place.access_token()}", "Accept": "application/json"},
    ).raise_for_status()
    assert sorted(place.told(place.sync)) == [("created", "Z1"), ("deleted", "A0001")]


@pytest.mark.usefixtures("batches")
def test_a_source_that_changes_during_the_walk_is_kept_in_step(start: Callable[..., Workplace]) -> None:
    """Before the second page one item of each page changes, one of each is removed, and there is a new one."""
    place = start(1_500)
    place.site.steer("POST", "change", {"percent": 100})

    def meddle() -> None:
        for code in ("A0001", "A1499"):
            place.site.put(code, Description="changed meanwhile")
        for code in ("A0002", "A1498"):
            place.site.remove(code)
        place.site.put("B1", Description="new meanwhile")

    application = place.made_of(place.databases, Meddling(place, at_call=2, act=meddle))
    run = place.work(place.start("ItemSync"), application)
    assert run is not None
    assert counts(run)["deleted"] == 2
    names = place.names()
    assert (names["A0001"], names["A1499"], names["B1"]) == ("changed meanwhile", "changed meanwhile", "new meanwhile")
    assert len(names) == 1_499
    assert all(name.endswith(("(r1)", "meanwhile")) for name in names.values())
    assert nonzero(place.sync()) == {}


class Meddling(ExactOnline):
    """Something happens at the source before the n-th call of a walk."""

    def __init__(self, place: Workplace, *, at_call: int, act: Callable[[], object]) -> None:
        super().__init__(place.site.clock, allow_other_hosts=True, sleep=place.site.wait, timeout=TIMEOUT)
        self._calls_left = at_call
        self._act = act

    def source(self, entity: str, connection: OpenConnection) -> Source:
        def access_token() -> str:
            self._calls_left -= 1
            if self._calls_left == 0:
                self._act()
            return connection.access_token()

        return super().source(entity, evolve(connection, access_token=access_token))


# removals


def test_what_the_source_removed_is_deleted(start: Callable[..., Workplace]) -> None:
    place = start()
    for code in ("A0003", "A0001"):
        place.site.remove(code)
    before = place.site.calls
    told = place.told(lambda: nonzero(place.sync()))
    assert sorted(told) == [("deleted", "A0001"), ("deleted", "A0003")]
    assert rows_read(place.site, before) == 2
    assert len(place.names()) == 38
    assert len(place.tables().records) == 38
    assert nonzero(place.sync()) == {}


def test_what_came_and_went_between_two_runs_is_never_seen(start: Callable[..., Workplace]) -> None:
    place = start()
    place.site.put("B1", Description="Short-lived")
    place.site.remove("B1")
    assert place.told(lambda: nonzero(place.sync())) == []


@pytest.mark.usefixtures("batches")
def test_an_item_that_was_removed_and_made_anew_stays(start: Callable[..., Workplace]) -> None:
    """Exact gives it another key: the record that holds the code is gone, and the new one takes it over."""
    place = start()
    place.site.remove("A0001")
    place.site.put("A0001", Description="Made anew")
    assert place.told(lambda: counts(place.sync())) == [("updated", "A0001")]
    assert place.names()["A0001"] == "Made anew"
    assert place.reasons() == []
    assert nonzero(place.sync()) == {}
    place.site.put("A0001", Description="And changed")
    assert place.told(place.sync) == [("updated", "A0001")]


def test_an_item_made_anew_as_it_was_is_no_change(start: Callable[..., Workplace]) -> None:
    place = start()
    place.site.remove("A0001")
    place.site.put("A0001", Description="Item 1")
    assert nonzero(place.sync()) == {"read": 1, "unchanged": 1}
    assert len(place.names()) == 40
    assert len(place.events()) == 40


def test_an_item_made_anew_is_found_without_being_told_of_the_removal(start: Callable[..., Workplace]) -> None:
    """The new record is refused while the old one seems to be there, and gets its code when the read shows it gone."""
    place = start(retrieve_deleted_records=False)
    place.site.remove("A0001")
    place.site.put("A0001", Description="Made anew")
    assert place.told(lambda: place.sync()) == []
    assert place.names()["A0001"] == "Item 1"
    [reason] = place.reasons()
    assert reason.startswith("item code A0001 is taken by record ")
    assert place.told(lambda: counts(place.sync(complete=True))) == [("updated", "A0001")]
    assert place.names()["A0001"] == "Made anew"
    assert place.reasons() == []


def test_more_removals_than_the_guard_allows_are_held_until_a_person_confirms(start: Callable[..., Workplace]) -> None:
    place = start()
    for number in range(15):
        place.site.remove(f"A{number:04}")
    place.site.put("A0039", Description="Changed")
    assert place.told(lambda: held(place.sync(), 15)) == [("updated", "A0039")]
    assert len(place.names()) == 40
    assert place.told(lambda: held(place.sync(), 15)) == [], "also when the source tells nothing new"
    told = place.told(lambda: held(place.sync(confirm_deletions=True), 0))
    assert sorted(told) == [("deleted", f"A{number:04}") for number in range(15)]
    assert len(place.names()) == 25


def held(run: JobRun, expected: int) -> None:
    assert counts(run)["held_deletions"] == expected


def test_reading_changes_deletes_nothing_by_absence(start: Callable[..., Workplace]) -> None:
    """Rule 11. The user lacks the right to be told of removals, so that there are none."""
    place = start(retrieve_deleted_records=False)
    place.site.remove("A0001")
    place.site.change(30)
    assert counts(place.sync())["deleted"] == 0
    assert "A0001" in place.names()


def test_naming_items_deletes_nothing_by_absence(start: Callable[..., Workplace]) -> None:
    place = start(retrieve_deleted_records=False)
    place.site.remove("A0001")
    assert nonzero(place.sync_codes("A0001", "A0002")) == {"read": 1, "unchanged": 1}
    assert "A0001" in place.names()


def test_a_complete_read_deletes_what_it_misses_within_the_guard(start: Callable[..., Workplace]) -> None:
    place = start(retrieve_deleted_records=False)
    for number in range(10):
        place.site.remove(f"A{number:04}")
    assert counts(place.sync(complete=True))["deleted"] == 10
    for number in range(10, 21):
        place.site.remove(f"A{number:04}")
    run = place.sync(complete=True)
    assert (counts(run)["deleted"], counts(run)["held_deletions"]) == (0, 11)
    assert len(place.names()) == 30
    assert counts(place.sync(confirm_deletions=True))["deleted"] == 11
    assert len(place.names()) == 19


def test_what_comes_back_before_its_deletion_is_kept(start: Callable[..., Workplace]) -> None:
    """One page of a complete read is empty by mistake: the deletions are held, and the next read takes them back."""
    place = start()
    everything = list(whole(place).pages(None))
    told_nothing = told_by(place, [evolve(everything[0], records=everything[0].records[:20])])
    assert work(place, told_nothing, complete=True)["held_deletions"] == 20
    assert place.told(lambda: held(place.sync(complete=True), 0)) == []
    assert counts(place.sync(confirm_deletions=True))["deleted"] == 0
    assert len(place.names()) == 40


@pytest.mark.parametrize("kind", ["error_glued", "status", "drop"])
def test_a_broken_off_complete_read_goes_on_and_deletes_nothing(start: Callable[..., Workplace], kind: str) -> None:
    """Rule 12."""
    place = start(2_500, retrieve_deleted_records=False)
    place.site.remove("A0007")
    before = place.site.calls
    place.site.fault(match="sync/Logistics/Items", nth=2, times=3, do=kind)
    run = place.sync(complete=True)
    assert (run.tries, counts(run)["deleted"], counts(run)["read"]) == (1, 0, 2_499)
    assert "A0007" in place.names()
    assert place.site.calls - before == 3 + 3 + 1, "three pages, three failures, and the removals"
    assert counts(place.sync(complete=True))["deleted"] == 1


@pytest.mark.parametrize(("days", "unchanged"), [(49, 0), (51, 39), (100, 39)])
def test_after_50_days_without_a_read_everything_is_read(
    start: Callable[..., Workplace], days: int, unchanged: int
) -> None:
    """Exact Online has forgotten by then what was removed; and after 100 days the sandbox has, too."""
    place = start()
    place.site.advance(timedelta(days=1))
    assert nonzero(place.sync()) == {}, "but the day of this read counts"
    place.site.remove("A0007")
    place.site.put("B1", Description="New")
    place.site.advance(timedelta(days=days))
    place.consent()
    expected = {"read": 1 + unchanged, "created": 1, "unchanged": unchanged, "deleted": 1}
    assert nonzero(place.sync()) == {name: count for name, count in expected.items() if count}
    assert "A0007" not in place.names()
    before = place.site.calls
    assert nonzero(place.sync()) == {}
    assert rows_read(place.site, before) == 0


@pytest.mark.parametrize("reads_before", ["nothing", "another version of the flow"])
def test_an_empty_source_deletes_nothing_unless_a_person_confirms(
    start: Callable[..., Workplace], reads_before: str
) -> None:
    """Rule 14; also when the run has built records before, that it did not read. The guard alone would allow ten."""
    place = start(8, retrieve_deleted_records=False)
    for number in range(8):
        place.site.remove(f"A{number:04}")
    if reads_before == "another version of the flow":
        command = SetUpFlow(kind=FlowKind.ITEM, connection_id=place.connection.id, aspects=("name", "unit"))
        place.application.run(set_up_flow, command, CONTEXT)
    assert place.told(lambda: held(place.sync(complete=True), 8)) == []
    assert place.told(lambda: held(place.sync(), 8)) == [], "the next read of changes knows no more"
    assert len(place.names()) == 8
    assert counts(place.sync(confirm_deletions=True))["deleted"] == 8
    assert place.names() == {}


def test_an_entry_that_cannot_be_told_apart_may_be_one_that_is_missed(start: Callable[..., Workplace]) -> None:
    place = start()
    everything = list(whole(place).pages(None))
    spoiled = evolve(
        everything[0], records=everything[0].records[1:], broken=[({"Code": "A0000"}, "the row has no ID")]
    )
    result = work(place, told_by(place, [spoiled]), complete=True)
    assert (result["deleted"], result["held_deletions"], result["quarantined"]) == (0, 0, 1)
    assert len(place.names()) == 40
    assert place.reasons() == ["the row has no ID"]


# versions


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize(
    ("pages", "name"),
    [
        ([("record", 5), ("removed", 9)], None),
        ([("removed", 5), ("record", 9)], "version 9"),
        ([("record", 9), ("removed", 5)], "version 9"),
        ([("record", 9), ("record", 5)], "version 9"),
        ([("record", 5), ("record", 9)], "version 9"),
        ([("record", 1)], "version 2"),
        ([("removed", 1)], "version 2"),
    ],
)
def test_versions_decide_and_not_the_order_of_arrival(
    start: Callable[..., Workplace], pages: Sequence[tuple[str, int]], name: str | None
) -> None:
    """Rules 7 and 16. The record is known in version 2."""
    place = start(1)
    work(place, told_by(place, [page_of("record", 2)]))
    work(place, told_by(place, [page_of(*page) for page in pages]))
    assert place.names().get("K") == name


def page_of(kind: str, version: int) -> SourcePage:
    cursor = {"items": version, "deleted": version, "read_on": FIRST_DAY.date().isoformat()}
    if kind == "removed":
        return SourcePage(tombstones=[Tombstone(key="k", version=version)], cursor=cursor)
    raw = {"ID": "k", "Code": "K", "Description": f"version {version}"}
    return SourcePage(records=[SourceRecord.of(key="k", version=version, raw=raw)], cursor=cursor)


def whole(place: Workplace) -> Source:
    connection = place.connection
    token = place.access_token
    opened = OpenConnection(id=connection.id, settings=connection.settings, secret_settings={}, access_token=token)
    return place.connector.source("item", opened)


class Told(ExactOnline):
    """Brings these pages, whatever the cursor."""

    def __init__(self, place: Workplace, pages: Sequence[SourcePage]) -> None:
        super().__init__(place.site.clock)
        self._pages = pages

    def source(self, entity: str, connection: OpenConnection) -> Source:
        return self

    def pages(self, cursor: Mapping[str, Any] | None) -> Iterator[SourcePage]:
        yield from self._pages

    def named(self, codes: Sequence[str]) -> Iterator[SourcePage]:
        yield from ()


def told_by(place: Workplace, pages: Sequence[SourcePage]) -> Application:
    return place.made_of(place.databases, Told(place, pages))


def work(place: Workplace, application: Application, **parameters: Any) -> Counts:
    run = place.work(place.start("ItemSync", **parameters), application)
    assert run is not None
    return counts(run)


# crashes


@pytest.mark.parametrize("complete", [False, True], ids=["changes", "everything"])
def test_a_run_killed_at_any_commit_ends_like_a_clean_one(
    start: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, complete: bool
) -> None:
    """Rules 17, 18 and 21: each page is a batch of its own, and the process dies in place of each commit in turn. A
    read of everything that was broken off leaves the cursor where it was."""
    monkeypatch.setattr(run_of_flow, "BATCH", 1)
    place = start(2_100)
    site = place.site
    place.close()
    site.change(1_010)
    for code in ("A0001", "A0002"):
        site.remove(code)
    site.put("A0001", Description="Made anew")
    site.put("A0003", Description=" ")

    with workplace(tmp_path / "clean", site, tmp_path / "state") as clean:
        before = site.calls
        counts(clean.sync(complete=complete))
        clean_calls, expected, last = site.calls - before, clean.tables(), clean.cursor()

    for number in range(1, 100):
        with workplace(tmp_path / f"killed {number}", site, tmp_path / "state") as place:
            run_id = place.start("ItemSync", complete=complete)
            before, cursor = site.calls, place.cursor()
            try:
                place.work(run_id, place.dies_at_commit(number))
            except Killed:
                reached = place.cursor()
                assert reached == last or is_not_behind(reached, cursor)
                place.let_leases_run_out()
                assert place.finish(run_id).state is RunState.SUCCEEDED
                assert site.calls - before <= clean_calls + 2, "a page again, and whether there is more"
                if complete and place.cursor() == cursor:
                    assert evolve(place.tables(), cursors=expected.cursors) == expected
                    continue
                assert place.cursor() == last
                assert place.tables() == expected
                continue
            assert number > 5, "it died several times before it came through"
            assert place.tables() == expected
            return
    raise AssertionError("the run never ends")


def is_not_behind(cursor: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None) -> bool:
    return all((cursor or {}).get(name, 0) >= place for name, place in (earlier or {}).items())


# named items


def test_named_items_are_read_25_a_call(start: Callable[..., Workplace]) -> None:
    place = start(60)
    place.site.steer("POST", "change", {"percent": 100})
    before, cursor = place.site.calls, place.cursor()
    codes = [f"A{number:04}" for number in range(10, 70)]
    assert nonzero(place.sync_codes(*codes)) == {"read": 50, "updated": 50}
    assert place.site.paths(before) == ["logistics/Items"] * 3
    assert place.cursor() == cursor
    names = place.names()
    assert sum(name.endswith("(r1)") for name in names.values()) == 50
    assert nonzero(place.sync()) == {"read": 60, "updated": 10, "unchanged": 50}


def test_a_read_of_named_items_goes_on_with_those_that_are_left(start: Callable[..., Workplace]) -> None:
    place = start(100)
    place.site.steer("POST", "change", {"percent": 100})
    before = place.site.calls
    place.site.fault(match="logistics/Items", nth=3, times=3, do="status")
    run = place.finish(place.start("ItemSelectiveSync", codes=[f"A{number:04}" for number in range(100)]))
    assert (run.tries, nonzero(run)) == (1, {"read": 100, "updated": 100})
    assert place.site.calls - before == 4 + 3, "four calls, and three failures of the third"


def test_codes_of_any_spelling_can_be_named(start: Callable[..., Workplace]) -> None:
    place = start(1)
    codes = ["O'Neil's", "''", "50% & more", "a+b#c", "x eq 'y' or Code ne '", "é/ü", "(1)", "$top=1", "a\\b"]
    for code in codes:
        place.site.put(code, Description="Named")
    assert nonzero(place.sync_codes(*codes)) == {"read": len(codes), "created": len(codes)}
    assert sorted(place.names()) == sorted(["A0000", *codes])


def test_an_unknown_code_is_left_out(start: Callable[..., Workplace]) -> None:
    place = start(3)
    assert nonzero(place.sync_codes("A0001", "never there")) == {"read": 1, "unchanged": 1}


def test_an_older_run_does_not_undo_what_was_named(start: Callable[..., Workplace]) -> None:
    """A named read has no versions: the next read of changes brings the same row with its version."""
    place = start()
    place.site.put("A0001", Description="First")
    place.sync_codes("A0001")
    place.site.put("A0001", Description="Second")
    assert place.told(place.sync) == [("updated", "A0001")]
    assert place.names()["A0001"] == "Second"
    place.site.advance(timedelta(minutes=1))
    assert place.told(lambda: [place.sync_codes("A0001"), place.sync()]) == []
