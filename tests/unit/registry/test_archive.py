"""Archives: what goes out comes in again, and what is hostile does not."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.registry.small import RESULT, Small, model_folder

from quarry.errors import InvalidArgumentError, LimitExceededError, ModelError, QuarryError, UnavailableError
from quarry.registry import archive as archives
from quarry.registry.archive import read_archive, write_archive
from quarry.registry.unpacking import ArchiveLimits

Add = Callable[[tarfile.TarFile], None]


LIMITS = ArchiveLimits(bytes=2**34, files=1_000, ratio=20)


def unpacked(
    data: bytes, folder: Path, limits: ArchiveLimits = LIMITS
) -> tuple[Path, archives.Passport | None]:
    (folder / "out").mkdir(parents=True)
    (folder / "a.tar").write_bytes(data)
    return read_archive(folder / "a.tar", folder / "out", limits)


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
    place = faq.registry.locate_folder(made.name)
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
        gzip.compress(tar(*MODEL), mtime=0)[:60],
        b"\x1f\x8b" + b"\x00" * 600,
    ],
)
def test_what_is_no_archive_of_a_model_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^archive: "):
        unpacked(data, tmp_path)


def test_what_is_too_much_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(tar(*MODEL, member("big.json", bytes(100_000))))
    with pytest.raises(LimitExceededError, match="holds over 1000 bytes"):
        unpacked(bomb, tmp_path / "a", replace(LIMITS, bytes=1_000))
    with pytest.raises(LimitExceededError, match="over 1 files"):
        unpacked(tar(*MODEL), tmp_path / "b", replace(LIMITS, files=1))


def zeros(archive: tarfile.TarFile, name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, Zeros(size))


class Zeros(io.RawIOBase):
    """So many bytes of nothing, which take no memory."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = -1) -> bytes:
        given = min(self._left, size)
        self._left -= given
        return bytes(given)


def compressed(open_file: Callable[..., Any], file: Path, *names: str, size: int) -> bytes:
    with open_file(file, "wb") as out, tarfile.open(fileobj=out, mode="w") as archive:
        for add in MODEL:
            add(archive)
        for name in names:
            zeros(archive, name, size)
    return file.read_bytes()


@pytest.mark.parametrize("open_file", [gzip.open, bz2.open, lzma.open])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, open_file: Callable[..., Any]) -> None:
    bomb = compressed(open_file, tmp_path / "bomb", "model.safetensors", size=70 * 2**20)
    assert len(bomb) < 100_000
    with pytest.raises(LimitExceededError, match="over 20 times"):
        unpacked(bomb, tmp_path / "in")
    assert written(tmp_path / "in") < 1_000


def test_a_bomb_of_many_files_is_refused(tmp_path: Path) -> None:
    many = compressed(gzip.open, tmp_path / "many", *(f"{n}.bin" for n in range(14)), size=5 * 2**20)
    with pytest.raises(LimitExceededError, match="over 20 times"):
        unpacked(many, tmp_path / "many-in")
    assert written(tmp_path / "many-in") <= 64 * 2**20


def written(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / "out").rglob("*") if file.is_file())


def test_a_large_archive_may_be_compressed_as_weights_are(tmp_path: Path) -> None:
    weights = random.Random(1).randbytes(2**20) * 70  # nothing that gzip sees repeats
    model, _ = unpacked(gzip.compress(tar(MODEL[0], member("model.safetensors", weights)), 1), tmp_path)
    assert (model / "model.safetensors").stat().st_size == len(weights)


def test_a_server_that_stops_unpacks_no_further(tmp_path: Path) -> None:
    answers = iter([False] * 20)
    (tmp_path / "out").mkdir()
    (tmp_path / "a.tar").write_bytes(tar(*MODEL, member("more.bin", bytes(10 * 2**20))))
    with pytest.raises(UnavailableError, match="stopped"):
        read_archive(tmp_path / "a.tar", tmp_path / "out", LIMITS, lambda: next(answers, True))
    assert 0 < written(tmp_path) < 10 * 2**20


def test_text_files_have_a_bound_of_their_own(tmp_path: Path) -> None:
    large = tar(*MODEL, member("tokenizer.json", bytes(65 * 2**20)))
    with pytest.raises(LimitExceededError, match=r"'tokenizer.json' has over \d+ bytes"):
        unpacked(large, tmp_path / "a")
    large = tar(*MODEL, member("version.json", b'{"name": "' + b"x" * 9 * 2**20 + b'"}'))
    with pytest.raises(InvalidArgumentError, match=r"version.json has over \d+ bytes"):
        unpacked(large, tmp_path / "b")


def test_a_deep_or_long_name_is_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("a/" * 2_000 + "x", "a" * 600, "a/" * 9 + "x", "x" * 300)):
        with pytest.raises(QuarryError) as raised:
            unpacked(tar(*MODEL, member(name)), tmp_path / str(number))
        assert isinstance(raised.value, InvalidArgumentError | ModelError)
        assert len(str(raised.value)) < 200


def test_headers_are_bounded_before_they_are_read(tmp_path: Path) -> None:
    for number, kind in enumerate((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)):
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 2**32
        with pytest.raises(LimitExceededError, match="a header in the archive has over 65536 bytes"):
            unpacked(tar(*MODEL)[:2_048] + header.tobuf() + bytes(2**20), tmp_path / str(number))


def test_headers_that_wait_for_headers_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    with pytest.raises(QuarryError) as raised:
        unpacked(header.tobuf() * 100_000, tmp_path)
    assert isinstance(raised.value, InvalidArgumentError | LimitExceededError)


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    for number, pax in enumerate(
        (
            {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)},
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)},
        )
    ):
        sparse = tar(*MODEL, member("model.safetensors", b"1\n0\n1\n" + bytes(2_000), pax_headers=pax))
        with pytest.raises((InvalidArgumentError, LimitExceededError)):
            unpacked(sparse, tmp_path / str(number))


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.REGTYPE])
def test_a_size_below_zero_buys_no_room_for_others(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("model")
    info.type, info.size = kind, -(2**40)
    header = info.tobuf(format=tarfile.GNU_FORMAT)
    archive = header + tar(member("config.json", b"{}"), member("model.safetensors", bytes(2**20)))
    with pytest.raises(InvalidArgumentError, match=r"a size that it cannot have|is no archive"):
        unpacked(archive, tmp_path, replace(LIMITS, bytes=2**19))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_an_error_does_not_repeat_what_was_sent(tmp_path: Path) -> None:
    secret = "\x1b[31m" + "secret" * 1_000
    for number, bad in enumerate(
        (
            member("version.json", b'{"kind": "' + secret.encode("unicode_escape") + b'", "name": 3}'),
            member(secret[:90], type=tarfile.FIFOTYPE),
            member(f"../{secret[:90]}"),
        )
    ):
        with pytest.raises(InvalidArgumentError) as raised:
            unpacked(tar(*MODEL, bad), tmp_path / str(number))
        assert "\x1b" not in str(raised.value)
        assert len(str(raised.value)) < 250


def test_random_bytes_in_an_archive_end_in_typed_errors(tmp_path: Path) -> None:
    good = bytearray(tar(*MODEL, member("version.json", b"{}")))
    for place in range(0, 1_600, 37):
        data = bytes(good[:place]) + b"\xff" + bytes(good[place + 1 :])
        try:
            unpacked(data, tmp_path / str(place))
        except QuarryError:
            continue
