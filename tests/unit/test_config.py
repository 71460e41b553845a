from pathlib import Path

import pytest

from quarry.config import Settings
from quarry.config_files import load_settings, write_example, write_settings
from quarry.errors import InvalidArgumentError


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path / "quarry.toml")


class Writer:
    """Writes a settings file and gives its path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, text: str) -> Path:
        self._path.write_text(text, encoding="utf-8")
        return self._path


def test_without_anything_the_defaults_hold() -> None:
    assert load_settings().model_dump() == Settings().model_dump()


def test_arguments_go_over_the_environment_and_that_over_the_file(
    write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write('host = "file"\nport = 1\ndrain_s = 3\n[search]\nthreads = 2\npage_lifetime_s = 60\n')
    monkeypatch.setenv("QUARRY_PORT", "2")
    monkeypatch.setenv("QUARRY_HOST", "environment")
    monkeypatch.setenv("QUARRY_SEARCH__THREADS", "7")
    settings = load_settings(file, host="argument", data=None)
    assert (settings.host, settings.port, settings.drain_s) == ("argument", 2, 3.0)
    assert (settings.search.threads, settings.search.page_lifetime_s) == (7, 60.0)
    assert settings.data == Settings().data


@pytest.mark.parametrize(
    ("text", "field", "meant"),
    [
        ("prot = 1", "prot", "port"),
        ("[models]\nreranker = []", "models.reranker", "models.rerankers"),
        ("[serach]\nthreads = 1", "serach", "search"),
        ("[search]\npage_lifetime = 1", "search.page_lifetime", "search.page_lifetime_s"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(write: Writer, text: str, field: str, meant: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"did you mean {meant}\\?") as caught:
        load_settings(write(text))
    assert caught.value.field == field


def test_an_unknown_variable_names_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARRY_MODEL__ENCODER", "x")
    with pytest.raises(InvalidArgumentError, match=r"did you mean QUARRY_MODELS__ENCODER\?"):
        load_settings()


def test_variables_of_the_command_line_and_the_tests_are_not_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUARRY_SERVER", "h:1")
    monkeypatch.setenv("QUARRY_TEST_QDRANT_URL", "x")
    load_settings()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("port = 65536", "port"),
        ("port = 'many'", "port"),
        ("drain_s = -1", "drain_s"),
        ("[search]\nthreads = 0", "search.threads"),
        ("[search]\npage_lifetime_s = nan", "search.page_lifetime_s"),
        ("[models]\ndevice = 'tpu'", "models.device"),
        ("[training]\npromotion = 'always'", "training.promotion"),
    ],
)
def test_a_wrong_value_is_named(write: Writer, text: str, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings(write(text))
    assert caught.value.field == field


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, write: Writer) -> None:
    for file in (tmp_path, tmp_path / "none.toml", write("port = ")):
        with pytest.raises(InvalidArgumentError) as caught:
            load_settings(file)
        assert caught.value.field == str(file)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        load_settings(binary)


def test_the_example_has_every_setting_with_a_sentence_and_its_default(write: Writer) -> None:
    text = write_example()
    assert load_settings(write(text)).model_dump() == Settings().model_dump()
    active = "\n".join(
        line.removeprefix("# ") for line in text.splitlines() if " = " in line or "[" in line[:1]
    )
    assert load_settings(write(active)).model_dump() == Settings().model_dump()
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if " = " in line:
            assert lines[place - 1].startswith("# ") and lines[place - 1].endswith("."), line


def test_settings_are_written_as_they_are_read_and_without_the_key(write: Writer) -> None:
    settings = load_settings(
        write('port = 7\n[feedback.guards]\nbot_clicks = 9\n[models]\nfolders = ["a"]\n')
    )
    assert load_settings(write(write_settings(settings))).model_dump() == settings.model_dump()
    secret = load_settings(write('[qdrant]\napi_key = "secret"\n'))
    assert "secret" not in write_settings(secret)


def test_variables_of_a_clients_tls_are_not_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUARRY_USE_TLS", "QUARRY_TLS_CA", "QUARRY_TLS_CERT", "QUARRY_TLS_KEY"):
        monkeypatch.setenv(name, "1")
    assert not load_settings().tls.on
    monkeypatch.setenv("QUARRY_TLS_CERTIFICATE", "c.pem")  # meant for the server, which would have no TLS
    with pytest.raises(InvalidArgumentError, match=r"did you mean QUARRY_TLS__CERTIFICATE\?"):
        load_settings()


def test_variables_of_tls_are_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CERTIFICATE", "KEY", "CLIENT_CA"):
        monkeypatch.setenv(f"QUARRY_TLS__{name}", name)
    found = load_settings().tls
    assert (found.on, found.certificate, found.key, found.client_ca) == (
        True,
        "CERTIFICATE",
        "KEY",
        "CLIENT_CA",
    )
