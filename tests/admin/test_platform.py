"""Ports and readiness of the platform on one machine."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from attrs import evolve

from ordersync_admin import platform
from ordersync_admin.platform import (
    addresses,
    free_ports,
    is_free,
    programs,
    wait_until_it_answers,
    with_free_ports,
    with_named_ports,
)
from ordersync_admin.settings import AdminSettings
from ordersync_core.kernel.errors import ExternalFailure
from tests.admin.receivers import a_receiver


@contextmanager
def taken(host: str = "127.0.0.1") -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind((host, 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_not_free(host: str) -> None:
    with taken(host) as port:
        assert not is_free(port)
    assert is_free(port)


def test_wanted_ports_are_kept_where_they_are_free_and_no_port_is_given_twice() -> None:
    (wanted,) = free_ports(0)
    with taken() as other:
        ports = free_ports(wanted, other, wanted, 0, 0, 0)
    assert ports[0] == wanted
    assert other not in ports
    assert len(set(ports)) == 6


def test_a_taken_port_is_named_with_its_setting() -> None:
    with taken() as port:
        for name, settings in (
            ("ORDERSYNC_API_PORT", AdminSettings(api_port=port, functions_port=0)),
            ("ORDERSYNC_FUNCTIONS_PORT", AdminSettings(api_port=0, functions_port=port)),
        ):
            with pytest.raises(ExternalFailure, match=f"{port} is taken.*{name}"):
                with_named_ports(settings)
        freed = with_free_ports(AdminSettings(api_port=port, functions_port=0))
        assert freed.api_port not in (0, port)


def test_the_programs_get_the_ports_that_were_chosen() -> None:
    settings = with_named_ports(AdminSettings(api_port=0, functions_port=0))
    assert 0 not in (settings.api_port, settings.functions_port)
    for program in programs(settings, {"ORDERSYNC_API_PORT": "0", "ORDERSYNC_STATE": "x"}):
        assert program.environment == {
            "ORDERSYNC_API_PORT": str(settings.api_port),
            "ORDERSYNC_FUNCTIONS_PORT": str(settings.functions_port),
            "ORDERSYNC_STATE": "x",
        }
    assert addresses(evolve(settings, api_port=80)).api == "http://127.0.0.1:80"


def test_waiting_ends_when_it_is_given_up_or_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver() as receiver:  # answers a GET with 501
        wait_until_it_answers(receiver.url, given_up=lambda: True)
        monkeypatch.setattr(platform, "READY_WITHIN", 0.0)
        with pytest.raises(ExternalFailure, match="does not answer; the log above says why"):
            wait_until_it_answers(receiver.url)
