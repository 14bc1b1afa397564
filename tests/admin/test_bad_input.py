"""Bad input gets one clear line and an exit code: every command, found by walking the help, in every bad state."""

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import rich_click as click

from ordersync_admin.cli import cli, run

UUID = "0190a6f0-0000-7000-8000-000000000001"
VALUES = {
    "CODE": "acme",
    "TYPE": "ItemSync",
    "CRON": "0 6 * * *",
    "KIND": "item",
    "URL": "https://example.com/hook",
    "CONNECTOR": "exact_online",
    "SUBJECT": "alice",
    "ID": "1",
}
OPTION_VALUES = {
    "administration": "acme",
    "connection_id": UUID,
    "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
    "after": "0",
}

NEED_NO_SETTINGS = {"demo", "sandbox exact-online", "webhooks listen"}
"""They bring settings of their own, or need none."""

READING = {"connectors", "deliveries", "doctor", "executions", "list", "schedules", "show", "trace"}

BROKEN_FILES = {
    "no header": "1,Teapot\n",
    "no description": "Code,Description\nT-1,Teapot\nT-2,\n",
    "repeated code": "Code,Description\nT-1,Teapot\nT-1,Another\n",
    "code too long": f"Code,Description\n{'x' * 31},Teapot\n",
    "too many columns": "Code,Description\nT-1,Teapot,3,4\n",
    "empty": "",
}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(sorted(commands(cli)))
NEED_NO_ADMINISTRATION = {
    " ".join(path)
    for path, command in COMMANDS.items()
    if all(parameter.name != "administration" for parameter in command.params)
}


def every_command(*, but: Iterable[str] = ()) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", [path for path in COMMANDS if " ".join(path) not in but], ids=" ".join)


def arguments(path: tuple[str, ...]) -> list[str]:
    """A call with every argument and required option filled in."""
    words = list(path)
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Argument):
            words.append(VALUES.get((parameter.name or "").upper(), UUID))
        elif isinstance(parameter, click.Option) and parameter.required:
            words += [parameter.opts[0], OPTION_VALUES[parameter.name or ""]]
    return words


def fails_with_one_line(words: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 1) -> str:
    capsys.readouterr()
    assert run(words) == code, words
    output = capsys.readouterr()
    line = output.err.strip()
    assert line.startswith("ordersync: "), output
    assert "\n" not in line, line
    assert "Traceback" not in line
    assert "unexpected" not in line
    assert output.out == ""
    return line


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERSYNC_STATE", str(tmp_path / "state"))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_there_are_commands_to_walk() -> None:
    assert len(COMMANDS) > 35


@every_command()
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


@every_command()
def test_an_unknown_option_is_a_usage_error(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--nonsense" in fails_with_one_line([*arguments(path), "--nonsense"], capsys, code=2)


@every_command(but=NEED_NO_SETTINGS)
def test_a_malformed_setting(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERSYNC_API_PORT", "eighty")
    assert "ORDERSYNC_API_PORT" in fails_with_one_line(arguments(path), capsys)


def test_a_secret_key_that_is_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERSYNC_SECRET_KEYS", "unusable")
    line = fails_with_one_line(["administrations", "list"], capsys)
    assert "ORDERSYNC_SECRET_KEYS" in line
    assert "unusable" not in line


@pytest.mark.parametrize("path", [path for path in COMMANDS if path[-1] in READING], ids=" ".join)
def test_whoever_only_reads_makes_nothing(path: tuple[str, ...], tmp_path: Path) -> None:
    run(arguments(path))
    assert not (tmp_path / "state").exists()


# the doctor tells it in its table; the connectors are known without a database
@every_command(but={*NEED_NO_SETTINGS, "doctor", "connections connectors"})
def test_an_unreachable_database(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERSYNC_ADMIN_DATABASE", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("ORDERSYNC_QUEUES", "postgresql://nobody@127.0.0.1:1/nothing")
    fails_with_one_line(arguments(path), capsys)


def test_the_doctor_tells_of_an_unreachable_database(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERSYNC_ADMIN_DATABASE", "postgresql://nobody@127.0.0.1:1/nothing")
    assert run(["doctor", "--json"]) == 1
    output = capsys.readouterr()
    assert '"check":"admin database","verdict":"wrong"' in output.out
    assert output.err == ""


@every_command(but=NEED_NO_ADMINISTRATION)
def test_an_unknown_administration(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["administrations", "create", "somebody"]) == 0
    line = fails_with_one_line(arguments(path), capsys)
    assert "there is no administration 'acme'" in line


def test_a_taken_port(taken_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(taken_port)
    listen = ["webhooks", "listen", "--secret", OPTION_VALUES["secret"], "--port", port]
    assert port in fails_with_one_line(listen, capsys)
    fails_with_one_line(["sandbox", "exact-online", "--port", port], capsys)
    monkeypatch.setenv("ORDERSYNC_API_PORT", port)
    assert port in fails_with_one_line(["up"], capsys)


@pytest.mark.parametrize("text", BROKEN_FILES.values(), ids=BROKEN_FILES)
@pytest.mark.parametrize("command", [["sandbox", "exact-online", "--port", "0"], ["demo", "--once"]])
def test_an_item_file_with_broken_rows(
    command: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "items.csv"
    path.write_text(text)
    state = ["--state", str(tmp_path / "demo")] if command[0] == "demo" else []
    capsys.readouterr()
    assert run([*command, *state, "--items", str(path)]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("ordersync: ")
    assert "items.csv" in last


def test_a_cron_expression_that_never_fires(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["administrations", "create", "acme"]) == 0
    never = ["jobs", "schedule", "ItemSync", "0 0 31 2 *", "-a", "acme"]
    assert "never" in fails_with_one_line(never, capsys)


def test_a_job_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["administrations", "create", "acme"]) == 0
    assert "Nonsense" in fails_with_one_line(["jobs", "start", "Nonsense", "-a", "acme"], capsys)
    wrong = ["jobs", "start", "ItemSync", "-a", "acme", "--parameters", '{"complete": 1}']
    assert "/complete must be true or false" in fails_with_one_line(wrong, capsys)


def test_a_code_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Acme!" in fails_with_one_line(["administrations", "create", "Acme!"], capsys)


def test_output_into_a_closed_pipe_is_no_failure(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["administrations", "create", "acme"]) == 0
    assert run(["administrations", "list", "--json"]) == 0
