"""Archives: what goes out comes in again, and what is hostile does not."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.registry.small import RESULT, Small, model_folder

from quarry.errors import InvalidArgumentError, LimitExceededError, QuarryError
from quarry.registry import archive as archives
from quarry.registry.archive import read_archive, write_archive

Add = Callable[[tarfile.TarFile], None]


def unpacked(data: bytes, folder: Path) -> tuple[Path, archives.Passport | None]:
    (folder / "out").mkdir(parents=True)
    (folder / "a.tar").write_bytes(data)
    return read_archive(folder / "a.tar", folder / "out")


def member(name: str, data: bytes = b"x", **values: object) -> Add:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in values.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(data))

    return add


def tar(*members: Add) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for add in members:
            add(archive)
    return buffer.getvalue()


MODEL = (member("config.json", b"{}"), member("model.safetensors"))


def test_what_goes_out_comes_in_again(faq: Small, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "w" * 2_000_000)
    (folder / "merges.txt").write_text("")
    made = faq.registry.register("faq", "reranker", folder, RESULT, "for people")
    place = faq.registry.folder(made.name)
    assert place is not None
    data = b"".join(write_archive(made, place))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {m.name for m in archive} == {
            "version.json", "model/config.json", "model/1_Pooling/config.json", "model/model.safetensors",
            "model/merges.txt",
        }  # fmt: skip
    model, passport = unpacked(data, tmp_path / "in")
    assert passport is not None
    assert (passport.result, passport.description, passport.name) == (RESULT, "for people", "faq@1")
    again = faq.registry.register("faq", "reranker", model, passport.result)
    assert again.artefact_hash == made.artefact_hash


@pytest.mark.parametrize("top", ["", "a-model/", "./"])
def test_a_model_may_lie_at_the_top_or_in_a_folder(tmp_path: Path, top: str) -> None:
    model, passport = unpacked(
        tar(member(f"{top}config.json", b"{}"), member(f"{top}model.safetensors")), tmp_path
    )
    assert passport is None
    assert (model / "config.json").read_bytes() == b"{}"


def test_compressed_archives_are_read(tmp_path: Path) -> None:
    model, _ = unpacked(gzip.compress(tar(*MODEL)), tmp_path)
    assert (model / "model.safetensors").exists()


@pytest.mark.parametrize(
    "bad",
    [
        member("../escaped", b"x"),
        member("a/../../escaped", b"x"),
        member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("link", b"", type=tarfile.LNKTYPE, linkname="config.json"),
        member("pipe", b"", type=tarfile.FIFOTYPE),
        member("device", b"", type=tarfile.CHRTYPE),
    ],
)
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, bad: Add) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^archive: "):
        unpacked(tar(*MODEL, bad), tmp_path / "in")
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "in" / "escaped").exists()


def test_absolute_names_stay_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    unpacked(tar(*MODEL, member(str(outside))), tmp_path / "in")
    assert not outside.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive at all" * 100,
        tar(*MODEL)[:700],
        tar(),
        tar(member("readme.txt")),
        tar(*MODEL, member("version.json", b"{}")),
        tar(*MODEL, member("version.json", b"\xff")),
        gzip.compress(tar(*MODEL))[:60],
        b"\x1f\x8b" + b"\x00" * 600,
    ],
)
def test_what_is_no_archive_of_a_model_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^archive: "):
        unpacked(data, tmp_path)


def test_what_is_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 1_000)
    bomb = gzip.compress(tar(*MODEL, member("big.json", bytes(100_000))))
    with pytest.raises(LimitExceededError, match="1000 bytes"):
        unpacked(bomb, tmp_path / "a")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(LimitExceededError, match="1 members"):
        unpacked(tar(*MODEL), tmp_path / "b")


def test_random_bytes_in_an_archive_end_in_typed_errors(tmp_path: Path) -> None:
    good = bytearray(tar(*MODEL, member("version.json", b"{}")))
    for place in range(0, 1_600, 37):
        data = bytes(good[:place]) + b"\xff" + bytes(good[place + 1 :])
        try:
            unpacked(data, tmp_path / str(place))
        except QuarryError:
            continue
