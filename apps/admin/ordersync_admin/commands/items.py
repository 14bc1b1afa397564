import shlex

import rich_click as click

from ordersync_admin.output import folding, show_one, show_rows
from ordersync_admin.shell import Shell, administration_option, json_option, limit_option, pass_shell
from ordersync_core.items.model import Item, ItemCode
from ordersync_core.kernel.errors import InvalidInput, NotFound
from ordersync_core.kernel.moments import rfc3339
from ordersync_core.kernel.paging import PageRequest


@click.group(name="items")
def command() -> None:
    """Items of an administration."""


@command.command(name="list")
@administration_option
@click.option("--search", help="A part of the code or the name.")
@limit_option
@click.option("--after", help="Begin after this code.")
@json_option
@pass_shell
def list_(shell: Shell, administration: str, search: str | None, limit: int, after: str | None, as_json: bool) -> None:
    """List items by code."""
    page = shell.queries(administration).items(
        PageRequest(limit=limit, after=None if after is None else (after,)), search=search
    )
    names = {} if as_json else {item.code: " / ".join(dict.fromkeys(item.name.values())) for item in page.rows}
    show_rows(
        [_shown(item) | ({"name": names[item.code]} if names else {}) for item in page.rows],
        {"code": "code", "name": folding("name"), "unit": "unit", "updated_at": "updated", "family_code": "family"},
        as_json=as_json,
        empty=(
            "There are no such items."
            if search or after
            else f"There are no items yet: ordersync jobs start ItemSync -a {administration} --watch"
        ),
        more=None if page.next is None else f"There are more: add --after {shlex.quote(page.rows[-1].code)}",
    )


@command.command()
@click.argument("code")
@administration_option
@json_option
@pass_shell
def show(shell: Shell, code: str, administration: str, as_json: bool) -> None:
    """Show one item."""
    try:
        wanted = ItemCode(code)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    item = shell.queries(administration).item(wanted)
    if item is None:
        raise NotFound(f"there is no item {code!r} in {administration}")
    show_one(_shown(item), as_json=as_json)


def _shown(item: Item) -> dict[str, object]:
    updated_at = None if item.updated_at is None else rfc3339(item.updated_at)
    return {**item.content(), "updated_at": updated_at}
