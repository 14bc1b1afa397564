"""A run ends with the same tables as a clean one, whatever any one of its calls meets."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from ordersync_connectors.exact_online.sandbox import SandboxSettings
from ordersync_core.connections.model import ConnectionState
from ordersync_core.jobs.model import JobRun, RunState
from tests.connectors.exact_online.workplace import (
    FIRST_DAY,
    Site,
    Tables,
    Workplace,
    item_file,
    running,
    workplace,
)

CLEAN_RUN = ["oauth2/token", *["sync/Logistics/Items"] * 3, "sync/Deleted"]
"""The calls of the run: its access token has ended, and more than 2,000 items have changed."""

TOKEN_CALL = 1
CALLS = range(1, len(CLEAN_RUN) + 1)
DATA_CALLS = range(2, len(CLEAN_RUN) + 1)

FAULTS: dict[str, dict[str, Any]] = {
    "401": {"do": "status", "status": 401},
    "429": {"do": "status", "status": 429},
    "500": {"do": "status", "status": 500},
    "503": {"do": "status", "status": 503},
    "half a JSON text": {"do": "half_json"},
    "an error after half a page": {"do": "error_glued"},
    "a timeout": {"do": "hang", "seconds": 1.5},
    "a connection that closes": {"do": "drop"},
    "an answer that is lost": {"do": "answer_lost"},
}
SPENDING = {"half a JSON text", "an error after half a page", "an answer that is lost"}
"""The token service has done its work: the old refresh token is spent, and the new one has never arrived."""

FAR_APART = timedelta(hours=2)
"""Between two cases: tokens have ended, and no refusal of one counts against the next."""


@frozen
class Scene:
    """A sandbox with changes since the last run, the folder of the administration as that run left it, and how it looks
    after a run without any fault."""

    site: Site
    template: Path
    clean: Tables
    result: Any


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("faults")
    rows = ({"Code": f"A{number:04}", "Description": f"Item {number}", "Unit": "stuk"} for number in range(2_500))
    file = item_file(folder / "items.csv", rows, "Unit")
    with running(SandboxSettings(clock=FIRST_DAY, items=file, error_velocity=10)) as site:
        with workplace(folder / "template", site) as place:
            place.connect()
            assert place.sync().state is RunState.SUCCEEDED
        change_some(site)
        with at_work(site, folder / "template", folder / "clean") as place:
            before = site.calls
            run = place.sync()
            assert site.paths(before) == CLEAN_RUN
            assert run.result is not None
            assert {name: run.result[name] for name in ("created", "deleted", "quarantined")} == {
                "created": 20,
                "deleted": 8,
                "quarantined": 4,
            }
            yield Scene(site, folder / "template", place.tables(), run.result)


def change_some(site: Site) -> None:
    """Three pages of changes, most of them in what is not read; new items, deletions, one that comes back under its old
    code, and four that cannot be built."""
    for number in range(400, 2_500):
        site.put(f"A{number:04}", Notes="not read")
    site.change(300)
    for number in range(19):
        site.put(f"B{number}", Description=f"New {number}")
    for number in range(9):
        site.remove(f"A{number:04}")
    site.put("A0008", Description="Made anew")
    site.put("B19", Description="New 19")
    for code in ("A0100", "A0101", "A0102"):
        site.put(code, Description=" ")
    site.put("A0200 ", Description="Collides when it is trimmed")


@contextmanager
def at_work(site: Site, template: Path, folder: Path) -> Iterator[Workplace]:
    """A copy of the administration whose connection was consented anew, so that its access token has ended since."""
    site.advance(FAR_APART)
    with workplace(folder, site, template) as place:
        place.consent()
        site.advance(timedelta(minutes=20))
        try:
            yield place
        finally:
            site.clear_faults()


def assert_like_the_clean_run(place: Workplace, run: JobRun, scene: Scene) -> None:
    assert run.state is RunState.SUCCEEDED, run.reason
    assert place.tables() == scene.clean


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", FAULTS)
def test_one_call_meets_a_fault(scene: Scene, tmp_path: Path, kind: str, call: int) -> None:
    with at_work(scene.site, scene.template, tmp_path / "state") as place:
        scene.site.fault(match="^/api/", nth=call, **FAULTS[kind])
        run = place.sync()
        if call == TOKEN_CALL and kind in SPENDING:
            assert_consent_is_needed(place, run)
            place.consent()
            run = place.resubmit(run.id)
        assert_like_the_clean_run(place, run, scene)
        assert run.result == scene.result


def assert_consent_is_needed(place: Workplace, run: JobRun) -> None:
    """The run says so and ends, and whoever comes next does not ask the token service again."""
    assert run.state is RunState.FAILED
    assert run.reason is not None
    assert "new consent" in run.reason
    assert place.connection.state is ConnectionState.NEEDS_CONSENT
    before = place.site.calls
    again = place.sync()
    assert again.state is RunState.FAILED
    assert again.reason == "connection 'Exact' waits for a person's consent"
    assert place.site.calls == before


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["503", "a connection that closes"])
def test_a_call_fails_until_the_run_has_to_wait(scene: Scene, tmp_path: Path, kind: str, call: int) -> None:
    """Three tries fail, so the run ends its process, waits, and goes on from where it was."""
    with at_work(scene.site, scene.template, tmp_path / "state") as place:
        scene.site.fault(match="^/api/", nth=call, times=3, **FAULTS[kind])
        before = scene.site.calls
        run = place.sync()
        assert run.tries == 1
        assert_like_the_clean_run(place, run, scene)
        assert scene.site.calls - before <= len(CLEAN_RUN) + 3 + 1, "the failed ones, and at most one page again"


@pytest.mark.parametrize("call", DATA_CALLS)
def test_pages_break_off_until_the_run_has_to_wait(scene: Scene, tmp_path: Path, call: int) -> None:
    with at_work(scene.site, scene.template, tmp_path / "state") as place:
        scene.site.fault(match="^/api/", nth=call, times=3, **FAULTS["an error after half a page"])
        run = place.sync()
        assert run.tries == 1
        assert_like_the_clean_run(place, run, scene)


def test_a_token_answer_is_lost_when_nobody_else_fails(scene: Scene, tmp_path: Path) -> None:
    with at_work(scene.site, scene.template, tmp_path / "state") as place:
        scene.site.fault(do="token_answer_lost")
        before = scene.site.calls
        run = place.sync()
        assert scene.site.paths(before) == ["oauth2/token"] * 2, "the lost one, and one try of the old token"
        assert_consent_is_needed(place, run)
        place.consent()
        assert_like_the_clean_run(place, place.resubmit(run.id), scene)


def test_the_access_token_is_refused_for_good(scene: Scene, tmp_path: Path) -> None:
    """Two refusals end the run: ten within an hour would close the endpoint for everybody."""
    with at_work(scene.site, scene.template, tmp_path / "state") as place:
        scene.site.fault(match="sync/Logistics/Items", nth=1, times=5, do="status", status=401)
        before = scene.site.calls
        run = place.sync()
        assert run.state is RunState.FAILED
        assert scene.site.paths(before) == ["oauth2/token", *["sync/Logistics/Items"] * 2]
        scene.site.clear_faults()
        assert_like_the_clean_run(place, place.resubmit(run.id), scene)
