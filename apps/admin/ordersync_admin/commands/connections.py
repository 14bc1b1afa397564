import sys

import rich_click as click

from ordersync_admin.consent import CALLBACK, give_consent
from ordersync_admin.output import done, folding, print_json, say, show_one, show_rows, show_text
from ordersync_admin.shell import Shell, administration_option, json_object, json_option, pass_shell, uuid_of
from ordersync_core.connections.commands import BeginAuthorisation, CreateConnection, DeleteConnection
from ordersync_core.connections.handlers import begin_authorisation, create_connection, delete_connection
from ordersync_core.connections.model import Connection, shown
from ordersync_core.connections.ports import Connectors
from ordersync_core.kernel.errors import NotFound

connection_argument = click.argument("connection_id")


@click.group(name="connections")
def command() -> None:
    """An administration's connections to external systems."""


@command.command()
@json_option
@pass_shell
def connectors(shell: Shell, as_json: bool) -> None:
    """List the connectors there are, and what each needs."""
    known: Connectors = shell.application.resolve(Connectors)
    rows = [
        {
            "name": name,
            "title": known[name].description.title,
            "entities": {entity: list(aspects) for entity, aspects in known[name].description.entities.items()},
            "settings": known[name].description.settings_schema,
            "secrets": known[name].description.secrets_schema,
        }
        for name in known.names()
    ]
    show_rows(
        rows,
        {"name": "name", "title": folding("title"), "entities": folding("supplies")},
        as_json=as_json,
        empty="This installation has no connectors.",
    )
    say("With --json also the settings and secrets that each of them needs.", style="dim", quiet=as_json)


@command.command(name="list")
@administration_option
@json_option
@pass_shell
def list_(shell: Shell, administration: str, as_json: bool) -> None:
    """List connections."""
    show_rows(
        [shown(connection) for connection in shell.queries(administration).connections()],
        {"id": "connection", "state": "state", "connector": "connector", "name": folding("name")},
        as_json=as_json,
        empty=f"There are no connections yet: ordersync connections create CONNECTOR -a {administration} "
        "--settings ... --secrets -; 'ordersync connections connectors' lists what there is",
    )


@command.command()
@connection_argument
@administration_option
@json_option
@pass_shell
def show(shell: Shell, connection_id: str, administration: str, as_json: bool) -> None:
    """Show a connection with its settings, without what is secret."""
    show_one(shown(_connection(shell, administration, connection_id)), as_json=as_json)


@command.command()
@click.argument("connector")
@administration_option
@click.option("--name", help="What people call it; the connector's name when left out.")
@click.option("--settings", "settings_text", default="{}", show_default=True, help="A JSON object.")
@click.option(
    "--secrets",
    "secrets_text",
    help="A JSON object; '-' reads it from standard input, so that it stands in no shell history.",
    default="{}",
    show_default=True,
)
@json_option
@pass_shell
def create(
    shell: Shell,
    connector: str,
    administration: str,
    name: str | None,
    settings_text: str,
    secrets_text: str,
    as_json: bool,
) -> None:
    """Create a connection; a person's consent comes next."""
    if secrets_text == "-":
        secrets_text = _from_stdin()
    connection = shell.application.run(
        create_connection,
        CreateConnection(
            connector=connector,
            name=name or connector,
            settings=json_object("--settings", settings_text),
            secret_settings=json_object("--secrets", secrets_text),
        ),
        shell.context(administration),
    )
    show_one(shown(connection), as_json=as_json)
    say(f"Next: ordersync connections authorise {connection.id} -a {administration}", quiet=as_json)


@command.command()
@connection_argument
@administration_option
@click.option("--redirect-uri", help="Our callback; the local host's when left out.")
@click.option("--follow", is_flag=True, help="Follow the address here, for a sandbox that consents by itself.")
@json_option
@pass_shell
def authorise(
    shell: Shell, connection_id: str, administration: str, redirect_uri: str | None, follow: bool, as_json: bool
) -> None:
    """Print the address to which a person's browser goes to consent."""
    callback = redirect_uri or f"http://127.0.0.1:{shell.settings.functions_port}{CALLBACK}"
    url = shell.application.run(
        begin_authorisation,
        BeginAuthorisation(connection_id=uuid_of(connection_id), redirect_uri=callback),
        shell.context(administration),
    )
    if follow:
        give_consent(url, redirect_uri=callback)
        show_one(shown(_connection(shell, administration, connection_id)), as_json=as_json)
        next_ = f"ordersync flows set item -a {administration} --connection {connection_id}"
    else:
        print_json({"url": url}) if as_json else show_text(url)
        next_ = f"open it in a browser, then ordersync connections show {connection_id} -a {administration}"
    say(f"Next: {next_}", quiet=as_json)


@command.command()
@connection_argument
@administration_option
@json_option
@pass_shell
def delete(shell: Shell, connection_id: str, administration: str, as_json: bool) -> None:
    """Delete a connection with its credentials."""
    shell.application.run(delete_connection, DeleteConnection(id=uuid_of(connection_id)), shell.context(administration))
    done(f"Connection {connection_id} is deleted.", deleted=connection_id, as_json=as_json)


def _connection(shell: Shell, administration: str, connection_id: str) -> Connection:
    connection: Connection | None = shell.queries(administration).connection(uuid_of(connection_id))
    if connection is None:
        raise NotFound(f"there is no connection {connection_id} in {administration}")
    return connection


def _from_stdin() -> str:
    say("Type the secrets as one JSON object, and end with Ctrl-D:", quiet=not sys.stdin.isatty())
    return sys.stdin.read()
