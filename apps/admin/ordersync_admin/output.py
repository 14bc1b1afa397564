"""What a command prints: a table for people, JSON for machines. Data goes to stdout, everything else to stderr."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

STATE_STYLES = {
    "Active": "green",
    "Succeeded": "green",
    "Delivered": "green",
    "Enabled": "green",
    "Connected": "green",
    "Running": "cyan",
    "Queued": "blue",
    "Waiting": "yellow",
    "Parked": "yellow",
    "Creating": "yellow",
    "NeedsConsent": "yellow",
    "Disabled": "red",
    "Failed": "red",
    "Dead": "red",
}


LOG_STYLES = ("cyan", "magenta", "green", "yellow", "blue")


def merged_log(*, only_troubles: bool = False) -> Callable[[str, str], None]:
    """Prints the lines of several programs, each with its program's name before it in a colour of its own."""
    console = message_console()
    styles: dict[str, str] = {}

    def log(name: str, line: str) -> None:
        if only_troubles and not _is_trouble(line):
            return
        style = styles.setdefault(name, LOG_STYLES[len(styles) % len(LOG_STYLES)])
        console.print(f"[{style}]{name:>10}[/{style}] {_escaped(line)}", highlight=False, soft_wrap=True)

    return log


def _is_trouble(line: str) -> bool:
    return any(word in line for word in ("WARNING", "ERROR", "CRITICAL", "Traceback", "ended with"))


def data_console() -> Console:
    return Console()


def message_console() -> Console:
    return Console(stderr=True)


def say(text: str, *, quiet: bool = False) -> None:
    """One line for the person at the terminal; none when they asked for quiet."""
    if not quiet:
        message_console().print(text, highlight=False)


def progress_bar(*, quiet: bool = False) -> Progress:
    """On stderr, and only where a person looks: no control codes in pipes and logs."""
    console = message_console()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )


def print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, default=str).decode())


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, empty: str) -> None:
    """A table of `columns` (key in the row -> heading), or the rows as one JSON array.

    empty: what to tell a person when there are none: what to do next.
    """
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        say(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    data_console().print(table)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in row.items():
        table.add_row(key.replace("_", " "), _cell(value))
    data_console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "[dim]-[/dim]"
    if isinstance(value, Mapping | list | tuple):
        return _escaped(orjson.dumps(value, default=str).decode())
    text = _escaped(str(value))
    style = STATE_STYLES.get(text)
    return f"[{style}]{text}[/{style}]" if style else text


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
