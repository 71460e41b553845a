"""`quarry doctor`: what is wrong is a fail with what to do, what may be absent is not."""

import socket

import pytest

from quarry_cli.checks import check as checks
from quarry_cli.checks import machine
from quarry_cli.checks.check import Check, CheckState
from quarry_cli.checks.machine import check_data_folder, check_server, is_port_free
from quarry_cli.commands import doctor


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Loading the encoder takes seconds and is tested with the models."""
    monkeypatch.setattr(
        doctor, "check_encoder", lambda data: [Check("encoder", CheckState.OK, "not loaded here")]
    )


def states(ended):
    return {check["name"]: check["state"] for check in ended.json}


def test_a_server_that_answers_is_described(quarry, cli, tmp_path):
    ended = cli("doctor", "--json", "--data", tmp_path)
    found = {check["name"]: check["detail"] for check in ended.json}
    assert found["server"] == f"{quarry.address}: SERVING, version 9.9, tiny on cpu"
    assert states(ended)["server"] == "ok"


def test_a_named_server_that_does_not_answer_fails(cli, tmp_path):
    ended = cli("doctor", "--json", "--data", tmp_path, "--server", "127.0.0.1:1")
    assert (ended.status, states(ended)["server"]) == (1, "fail")


def test_the_table_shows_every_check(cli, tmp_path):
    ended = cli("doctor", "--data", tmp_path)
    for name in ("python", "server packages", "encoder", "processor", "data folder", "disk", "server"):
        assert name in ended.out


def test_a_missing_server_package_is_a_warning_with_the_command(monkeypatch):
    real = checks._find_version
    monkeypatch.setattr(checks, "_find_version", lambda name: None if name == "tantivy" else real(name))
    found = {check.name: check for check in checks.check_packages()}
    assert found["server packages"].state is CheckState.WARN
    assert found["server packages"].detail == "missing: tantivy: pip install 'quarry-search[server]'"


def test_a_file_in_place_of_the_folder_fails(tmp_path):
    (tmp_path / "data").write_text("")
    assert next(iter(check_data_folder(tmp_path / "data"))).state is CheckState.FAIL
    assert next(iter(check_data_folder(tmp_path / "data" / "below"))).state is CheckState.FAIL


def test_a_folder_that_is_not_there_can_be_made_and_is_not(tmp_path):
    checked = next(iter(check_data_folder(tmp_path / "new")))
    assert checked.state is CheckState.OK
    assert not (tmp_path / "new").exists()


def test_a_port_with_a_listener_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert not is_port_free(address)
    assert is_port_free(address)


def test_nobody_at_the_default_address_is_fine_if_the_port_is_free(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr("quarry_cli.checks.machine.DEFAULT_ADDRESS", address)
    assert [check.state for check in check_server(None)] == [CheckState.OK]


def exposure(monkeypatch, address, encrypted=False, outward="", open_there=False):
    monkeypatch.setattr(machine, "find_outward_address", lambda: outward)
    monkeypatch.setattr(machine, "is_port_open", lambda host, port: open_there)
    return [check.state for check in machine.check_exposure(address, encrypted)]


def test_a_port_that_others_reach_without_tls_is_a_warning(monkeypatch):
    assert exposure(monkeypatch, "10.1.2.3:50051") == [CheckState.WARN]
    assert exposure(monkeypatch, "127.0.0.1:50051", outward="10.1.2.3", open_there=True) == [CheckState.WARN]


def test_a_port_that_others_do_not_reach_or_that_speaks_tls_is_fine(monkeypatch):
    assert exposure(monkeypatch, "127.0.0.1:50051", outward="10.1.2.3") == [CheckState.OK]
    assert exposure(monkeypatch, "[::1]:50051") == [CheckState.OK]
    assert exposure(monkeypatch, "10.1.2.3:50051", encrypted=True) == [CheckState.OK]
    assert exposure(monkeypatch, "unix:/tmp/q.sock") == []


def test_an_open_port_is_found_by_the_address_that_others_use():
    outward = machine.find_outward_address()
    if not outward:
        pytest.skip("this machine has no network")
    with socket.create_server((outward, 0)) as listener:
        port = listener.getsockname()[1]
        assert machine.is_port_open(outward, port)
    assert not machine.is_port_open(outward, port)
