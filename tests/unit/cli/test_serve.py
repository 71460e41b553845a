"""`quarry serve` is a thin wrapper: settings in, or one line that says what is wrong."""

import sys
import types

import pytest


@pytest.fixture
def served(monkeypatch):
    """The settings that the server was started with, if it was."""
    started = []
    fake = types.ModuleType("quarry_server.app")
    fake.serve = started.append
    monkeypatch.setitem(sys.modules, "quarry_server.app", fake)
    return started


def test_options_go_before_the_file(served, cli, tmp_path):
    (tmp_path / "q.toml").write_text('port = 7\nhost = "::1"\n')
    assert cli("serve", "--data", tmp_path, "--port", 0, "--config", tmp_path / "q.toml").status == 0
    assert (served[0].data, served[0].port, served[0].host) == (tmp_path, 0, "::1")


@pytest.mark.parametrize(
    ("text", "said"), [("prot = 7", "did you mean port?"), ("port = 70000", "port"), ("=", "")]
)
def test_wrong_settings_are_one_line(served, cli, tmp_path, text, said):
    (tmp_path / "q.toml").write_text(text)
    ended = cli("serve", "--config", tmp_path / "q.toml")
    assert (ended.status, served) == (1, [])
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_without_the_servers_packages_it_says_what_to_install(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "quarry_server.app", None)
    ended = cli("serve")
    assert ended.status == 1
    assert "pip install 'quarry-search[server]'" in ended.err


def test_the_options_of_transport_reach_the_settings(served, cli, tmp_path):
    (tmp_path / "q.toml").write_text(
        '[tls]\ncertificate = "old.pem"\nkey = "old.key"\nclient_ca = "ca.pem"\n'
    )
    options = ("--tls-cert", "new.pem", "--socket", "q.sock", "--config", tmp_path / "q.toml")
    assert cli("serve", *options).status == 0
    tls = served[0].tls
    assert (tls.certificate, tls.key, tls.client_ca) == ("new.pem", "old.key", "ca.pem")
    assert (served[0].socket, served[0].insecure) == ("q.sock", False)
    assert cli("serve", "--insecure").status == 0
    assert served[1].insecure


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-cert", "c"], "tls.key is missing"),
        (["--tls-key", "k"], "tls.certificate is missing"),
        (["--tls-client-ca", "a"], "client_ca needs tls.certificate and tls.key"),
        (["--tls-cert", "c", "--tls-key", "k", "--insecure"], "exclude each other"),
    ],
)
def test_options_of_tls_that_contradict_each_other_are_one_line(served, cli, options, said):
    ended = cli("serve", *options)
    assert (ended.status, served) == (1, [])
    assert said in ended.err
    assert ended.err.count("\n") == 1
