"""What is printed: tables that fit, data that stays data, JSON that is one document."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ordersync_admin import output
from ordersync_admin.cells import counts, lines_of, outcome, plain, readable
from ordersync_admin.output import Column, folding, merged_log, say, show_one, show_rows, show_text
from tests.admin.command_line import CODE, CommandLine
from tests.admin.terminal import ORDERSYNC, written

HOSTILE = ["[red]x[/red]", "[/]", "[/nothing]", "\\[x]", ":smile:", "漢字 🎁 Ünï", "[link=http://x]y[/link]"]
UUID = "01a20c9b-7f7a-7497-83a3-11dd5596bda7"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> "Terminal":
    return Terminal(monkeypatch)


class Terminal:
    """Stands for a terminal of so many columns, without colours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, columns: int) -> None:
        console = Console(width=columns, force_terminal=True, color_system=None, highlight=False)
        self._monkeypatch.setattr(output, "data_console", lambda: console)


def rows_of(count: int = 1, **more: Any) -> list[dict[str, Any]]:
    row = {"id": UUID, "state": "Succeeded", "reason": "connection 'exact_online' waits for a person's consent"}
    return [{**row, **more}] * count


# cells


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_as_it_is(text: str) -> None:
    assert readable(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1.5, "1.5"),
        ([], "-"),
        ({}, "-"),
        (["a", "b"], "a, b"),
        ({"a": 1, "b": None}, "a 1, b -"),
        ([{"code": "A", "count": 5}, {"code": "B", "count": 6}], "code A, count 5; code B, count 6"),
        ("\x1b[31mred\x07", "\ufffd[31mred\ufffd"),
        ("a\tb\nc", "a b\nc"),
        ("a\u202eb", "a\ufffdb"),
        ("a family 👨\u200d👩\u200d👧", "a family 👨\u200d👩\u200d👧"),
    ],
)  # fmt: skip
def test_values_are_readable(value: Any, text: str) -> None:
    assert readable(value) == text


def test_moments_are_short_where_the_day_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    time.tzset()
    try:
        assert readable("2026-03-01T08:10:47.034736Z", now=now) == "09:10:47"
        assert readable("2026-02-11T23:30:47.034736Z", now=now) == "12 Feb 00:30"
        assert readable("2024-06-11T12:10:47.034736Z", now=now) == "2024-06-11"
        assert readable("2024-06-11T12:10:47.034736Z") == "2024-06-11 14:10:47 CEST"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert readable("2024-06-11") == "2024-06-11"


@given(st.text())
def test_nothing_that_is_shown_commands_a_terminal(text: str) -> None:
    assert not any(ord(character) < 32 and character != "\n" for character in plain(text))
    assert "\x7f" not in plain(text)
    assert len(plain(text)) == len(text)


def test_lines_of_a_row_are_what_is_set() -> None:
    row: dict[str, Any] = {"id": UUID, "name": {"en": "Tea"}, "images": [], "vat": None, "on": False, "count": 0}
    assert lines_of(row) == [
        ("id", UUID),
        ("name en", "Tea"),
        ("on", "no"),
        ("count", "0"),
    ]
    assert lines_of({"deep": {"a_b": {"c": [1, 2]}}}) == [("deep a b c", "1, 2")]


def test_outcomes() -> None:
    run: dict[str, Any] = {"reason": None, "result": None, "progress": {"done": 0, "total": None, "text": ""}}
    assert outcome(run) == "-"
    assert outcome(run | {"progress": {"done": 3, "total": 9, "text": "items read"}}) == "3 of 9 items read"
    assert outcome(run | {"result": {"read": 3, "created": 0, "held_deletions": 2}}) == "3 read, 2 held deletions"
    assert outcome(run | {"reason": "it waits"}) == "it waits"
    assert counts({"read": 0}) == "nothing"


# tables


def test_an_id_is_never_folded_and_the_last_columns_give_way(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    columns: dict[str, str | Column] = {"id": "run", "state": "state", "reason": folding("reason"), "by": "by"}
    for width in range(40, 140, 7):
        terminal(width)
        show_rows(rows_of(3, by="somebody"), columns, as_json=False, empty="")
        lines = capsys.readouterr().out.splitlines()
        assert all(cell_len(line) <= width for line in lines), width
        assert sum(line.startswith(UUID) for line in lines) == 3, width
        shown = lines[0].split()
        assert shown == ["run", "state", "reason", "by"][: len(shown)]
        assert shown[-1] == "by" if width > 100 else shown[0] == "run"


def test_a_terminal_that_is_too_narrow_for_anything_still_shows_all_of_the_first_column(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(20)
    show_rows(rows_of(), {"id": "run", "state": "state"}, as_json=False, empty="")
    assert "".join(capsys.readouterr().out.split()) == f"run{UUID}"


def test_a_pipe_gets_one_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    columns: dict[str, str | Column] = {"id": "run", "state": "state", "reason": folding("reason"), "text": "text"}
    show_rows(rows_of(2, text="x" * 500), columns, as_json=False, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == f"{UUID}  Succeeded  {rows_of()[0]['reason']}  {'x' * 500}"
    assert lines[0] == lines[0].rstrip()


def test_numbers_are_flush_right(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [{"n": 5, "t": "a"}, {"n": 1000, "t": "b"}, {"n": None, "t": "c"}]
    show_rows(rows, {"n": "number", "t": "text"}, as_json=False, empty="")
    assert capsys.readouterr().out.splitlines() == ["number  text", "     5  a", "  1000  b", "     -  c"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("columns", [30, 80])
def test_data_is_no_markup(terminal: Terminal, capsys: pytest.CaptureFixture[str], text: str, columns: int) -> None:
    terminal(columns)
    show_rows([{"a": text, "b": text}], {"a": "a", "b": folding("b")}, as_json=False, empty="")
    show_one({"a": text, "b": [text], text: "key"}, as_json=False)
    show_text(text)
    show_text(text, style="red")
    say(text)
    merged_log()(text, text)
    output_ = capsys.readouterr()
    assert "".join(output_.out.split()).count("".join(text.split())) >= 6
    assert output_.err.count(text) == 3


def test_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], {"a": "a"}, as_json=False, empty="Next: do something")
    assert capsys.readouterr() == ("", "Next: do something\n")
    show_rows([], {"a": "a"}, as_json=True, empty="Next: do something")
    assert capsys.readouterr() == ("[]\n", "")


def test_a_message_is_never_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "message_console", lambda: Console(stderr=True, width=30, color_system=None))
    say(f"Next: ordersync connections authorise {UUID} -a acme")
    assert capsys.readouterr().err == f"Next: ordersync connections authorise {UUID} -a acme\n"


def test_the_merged_log_can_be_kept_to_troubles(capsys: pytest.CaptureFixture[str]) -> None:
    log = merged_log(only_troubles=True)
    for line in ("INFO all is well", "ERROR something", "ended with 1; starts again in 1 s"):
        log("jobs", line)
    assert capsys.readouterr().err.splitlines() == [
        "     jobs  ERROR something",
        "     jobs  ended with 1; starts again in 1 s",
    ]


# the whole command, at a terminal and in a pipe


def test_a_terminal_gets_colours_unless_it_wants_none(ordersync: CommandLine) -> None:
    coloured = written("administrations", "list", state=ordersync.state)
    assert "\x1b[32mActive" in coloured.raw
    plain_ = written("administrations", "list", state=ordersync.state, settings={"NO_COLOR": "1"})
    assert "\x1b[32m" not in plain_.raw
    assert [line.rstrip() for line in plain_.text.splitlines()] == ["code  name  state", "acme  Acme  Active"]


def test_every_list_fits_eighty_columns(ordersync: CommandLine, terminal: Terminal) -> None:
    ordersync.put("[red]x[/red]", "[/] " + "long " * 40)
    ordersync.json("webhooks", "create", f"http://127.0.0.1:9/{'path/' * 30}", "-a", CODE)
    ordersync.json("jobs", "start", "ItemSync", "-a", CODE)
    id = str(ordersync.end_job(failure="because of something that takes many words to say " * 5))
    ordersync.json("jobs", "schedule", "ItemSync", "0 6 * * 1-5", "-a", CODE)
    terminal(80)
    lists = (
        ("items", "list"),
        ("items", "show", "[red]x[/red]"),
        ("webhooks", "list"),
        ("jobs", "list"),
        ("jobs", "show", id),
        ("jobs", "schedules"),
    )
    for words in (*((*each, "-a", CODE) for each in lists), ("dead-letters", "list"), ("doctor",)):
        lines = ordersync(*words).out.splitlines()
        assert max(cell_len(line) for line in lines) <= 80, words
    [row] = [line for line in ordersync("jobs", "list", "-a", CODE).out.splitlines() if line.startswith(id)]
    assert row.split()[1] == "Failed"


def test_json_is_utf8_whatever_the_terminal_is(ordersync: CommandLine) -> None:
    ordersync.put("T-1", "漢字 🎁")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for words in (["items", "list", "--json"], ["items", "list"]):
        done = subprocess.run(
            [*ORDERSYNC, *words, "-a", CODE], env=environment, capture_output=True, check=True, timeout=60
        )
        if "--json" in words:
            assert orjson.loads(done.stdout)[0]["name"] == {"en": "漢字 🎁"}
        else:
            assert b"\\u6f22" in done.stdout


def test_a_reader_that_leaves_is_no_failure_worth_a_word(ordersync: CommandLine) -> None:
    for number in range(50):
        ordersync.put(f"T-{number}", "x" * 4000)  # in all more than a pipe holds
    words = [*ORDERSYNC, "items", "list", "-a", CODE]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (1, b"")


def test_an_argument_that_is_no_text_is_a_usage_error(ordersync: CommandLine) -> None:
    done = subprocess.run([*ORDERSYNC, "token", b"\xff"], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"ordersync: an argument is not text in UTF-8\n"


def test_completion_of_codes_is_offline_and_silent(ordersync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    ordersync("administrations", "create", "apex")
    assert _completed("items", "list", "-a", "a") == ["acme", "apex"]
    assert _completed("items", "list", "-a", "ac") == ["acme"]
    assert _completed("job") == ["jobs"]
    monkeypatch.setenv("ORDERSYNC_STATE", str(ordersync.state / "nowhere"))
    assert _completed("items", "list", "-a", "") == []
    monkeypatch.setenv("ORDERSYNC_API_PORT", "nonsense")
    assert _completed("items", "list", "-a", "") == []
    monkeypatch.delenv("ORDERSYNC_API_PORT")
    monkeypatch.setenv("ORDERSYNC_TENANT_DATABASES", "postgresql://nobody@127.0.0.1:1/{code}")
    assert _completed("items", "list", "-a", "") == []


def _completed(*words: str) -> list[str]:
    """What bash would be offered for the last word."""
    environment = {
        **os.environ,
        "_ORDERSYNC_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("ordersync", *words)),
        "COMP_CWORD": str(len(words)),
    }
    program = "import sys; sys.argv[0] = 'ordersync'; from ordersync_admin.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.stderr == b""
    return [line.removeprefix("plain,") for line in done.stdout.decode().splitlines() if line]


def test_the_help_fits_a_narrow_terminal(tmp_path: Path) -> None:
    text = written("--help", columns=60, state=tmp_path).text
    assert all(cell_len(line) <= 60 for line in text.splitlines())
    assert "_ORDERSYNC_COMPLETE=bash_source" in text
