"""Addresses and certificates on the command line, in front of the command, behind it, and by variables."""

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from quarry_cli.main import app
from quarry_cli.server_process import make_environment
from quarry_cli.tls_options import read_tls

TLS_OPTIONS = {"--tls", "--tls-ca", "--tls-cert", "--tls-key"}


def list_commands(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from list_commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def options_of(command):
    return {option for parameter in command.params for option in parameter.opts}


def test_every_command_that_talks_to_a_server_takes_the_options_of_tls():
    root = get_command(app)
    assert options_of(root) >= TLS_OPTIONS
    commands = dict(list_commands(root))
    talking = {name for name, command in commands.items() if "--server" in options_of(command)}
    assert {"search", "index", "collection create", "model list"} <= talking
    for name in talking:
        assert options_of(commands[name]) >= TLS_OPTIONS, name


@pytest.mark.parametrize("address", ["unix", "h", "h:0", "h:x", ":1", "unix:/" + "x" * 120])
def test_what_is_no_address_is_a_wrong_command(cli, address):
    assert cli("--server", address, "collection", "list").status == 2
    assert cli("collection", "list", "--server", address).status == 2


def test_a_command_does_not_keep_the_certificates_of_the_one_before(cli, quarry, tmp_path):
    assert cli("--tls-ca", tmp_path / "none", "collection", "list").status == 1
    assert read_tls("h:1") is not None
    assert cli("collection", "list").status == 0
    assert read_tls("h:1") is None


def test_the_demos_server_listens_on_nothing_of_the_users_own(monkeypatch):
    for name in ("QUARRY_TLS__CERTIFICATE", "QUARRY_TLS_CA", "QUARRY_SOCKET", "QUARRY_INSECURE"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("QUARRY_DRAIN_S", "3")
    made = {name: value for name, value in make_environment().items() if name.startswith("QUARRY_")}
    assert made.pop("QUARRY_DRAIN_S") == "3"
    assert made.pop("QUARRY_DRAIN_NOTICE_S") == "0"
    assert not any("TLS" in name or name in ("QUARRY_SOCKET", "QUARRY_INSECURE") for name in made)
