"""What a command prints: a table for people, JSON for machines. Data goes to stdout, everything else to stderr."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import click
import orjson
from attrs import frozen
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ordersync_admin.cells import NOTHING, lines_of, plain, readable

STATE_STYLES = {
    "Active": "green",
    "Succeeded": "green",
    "Delivered": "green",
    "Enabled": "green",
    "Connected": "green",
    "fine": "green",
    "Running": "cyan",
    "Queued": "blue",
    "Waiting": "yellow",
    "Parked": "yellow",
    "Creating": "yellow",
    "NeedsConsent": "yellow",
    "Disabled": "red",
    "Failed": "red",
    "Dead": "red",
    "wrong": "red",
    NOTHING: "dim",
}

LOG_STYLES = ("cyan", "magenta", "green", "yellow", "blue")
TROUBLES = ("WARNING", "ERROR", "CRITICAL", "Traceback", "ended with", "was killed")

GAP = 2
LEAST = 16
"""Cells that a column of text is worth; with fewer it gives way."""

UNLIMITED = 100_000
"""Cells of a line that no terminal shows: what reads a pipe wants one line for each row."""


@frozen
class Column:
    """folds: its text may take several lines; an id, a state or a number never does.

    right: flush right, as a column of numbers is anyhow.
    """

    heading: str
    folds: bool = False
    right: bool = False


def folding(heading: str) -> Column:
    return Column(heading, folds=True)


def data_console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=UNLIMITED)


@cache
def message_console() -> Console:
    """One for the whole process, so that lines and progress bars do not write over each other."""
    return Console(stderr=True, highlight=False)


def say(text: str, *, style: str = "", quiet: bool = False) -> None:
    """A line for the person at the terminal, as it is: neither markup nor folded; none when they asked for quiet."""
    if not quiet:
        message_console().print(Text(plain(text), style), soft_wrap=True)


def merged_log(*, only_troubles: bool = False) -> Callable[[str, str], None]:
    """Prints the lines of several programs, each with its program's name before it in a colour of its own."""
    styles: dict[str, str] = {}

    def log(name: str, line: str) -> None:
        if only_troubles and not any(trouble in line for trouble in TROUBLES):
            return
        style = styles.setdefault(name, LOG_STYLES[len(styles) % len(LOG_STYLES)])
        message_console().print(Text.assemble((f"{name:>9}", style), "  ", plain(line)), soft_wrap=True)

    return log


class CountColumn(TextColumn):
    """How many are done, and of how many where that is known."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f" of {task.total:.0f}"
        return Text(f"{task.completed:.0f}{total}", style="progress.download")


def progress_bar(*, quiet: bool = False) -> Progress:
    """On stderr, and only where a person looks: no control codes in pipes and logs."""
    console = message_console()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        CountColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )


def print_json(value: Any) -> None:
    """One document on one line, in UTF-8 whatever the terminal's encoding is."""
    click.echo(orjson.dumps(value, default=str))
    sys.stdout.flush()


def show_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str | Column],
    *,
    as_json: bool,
    empty: str,
    more: str | None = None,
) -> None:
    """A table of `columns` (key in the row -> heading), or the rows as one JSON array.

    columns: the most needed first; on a narrow terminal the last ones give way.
    empty: what to tell a person when there are none: what to do next.
    more: how a person gets at the rows that follow; None when these are all.
    """
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        say(empty, quiet=not empty)
        return
    console = data_console()
    shown = {key: column if isinstance(column, Column) else Column(column) for key, column in columns.items()}
    now = datetime.now(UTC) if console.is_terminal else None
    cells = {key: [readable(row.get(key), now=now) for row in rows] for key in shown}
    numbers = {key for key in shown if _are_numbers([row.get(key) for row in rows])}
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    kept = _that_fit(shown, cells, console.width)
    for key in kept:
        column = shown[key]
        table.add_column(
            column.heading,
            overflow="fold",
            no_wrap=not column.folds and len(kept) > 1,
            justify="right" if column.right or key in numbers else "left",
        )
    for place in range(len(rows)):
        table.add_row(*(_coloured(cells[key][place]) for key in kept))
    _print(console, table)
    if more is not None:
        say(more, style="dim")


def _are_numbers(values: Sequence[Any]) -> bool:
    given = [value for value in values if value is not None]
    return bool(given) and all(isinstance(value, int | float) for value in given)


def _that_fit(columns: Mapping[str, Column], cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The first columns that a line has room for; at least one."""
    kept: list[str] = []
    left = width + GAP
    for key, column in columns.items():
        needed = max(cell_len(line) for text in (column.heading, *cells[key]) for line in text.split("\n"))
        needed = min(needed, max(LEAST, cell_len(column.heading))) if column.folds else needed
        left -= needed + GAP
        if left < 0 and kept:
            return kept
        kept.append(key)
    return kept


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """What is set of a row, a line for each value, or the whole row as one JSON object."""
    if as_json:
        print_json(row)
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines_of(row):
        table.add_row(Text(name), _coloured(text))
    _print(data_console(), table)


def done(text: str, *, as_json: bool, **what: str) -> None:
    """That something was done: a line for a person, or what it was done to as one JSON object."""
    if as_json:
        print_json(what)
    else:
        say(text)


def show_text(text: str, *, style: str = "") -> None:
    """A line of data as it is, never folded: to be read, copied or piped on."""
    if style:
        data_console().print(Text(plain(text), style), soft_wrap=True)
    else:
        click.echo(plain(text))


def _coloured(text: str) -> Text:
    return Text(text, style=STATE_STYLES.get(text, ""))


def _print(console: Console, table: Table) -> None:
    """Without the blanks with which the last column is filled."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")
