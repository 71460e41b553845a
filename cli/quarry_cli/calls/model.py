"""Calls of ModelService whose answers or requests come in pieces."""

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from quarry.v1 import model_service_pb2 as pb
from quarry.v1.model_service_pb2_grpc import ModelServiceStub
from quarry_cli.connection import Connection, read_pages
from quarry_cli.failures import CliError

PIECE_BYTES = 2**20
LIST_PAGE = 1_000


def stub_of(quarry: Connection) -> ModelServiceStub:
    return ModelServiceStub(quarry.channel)


def all_models(quarry: Connection, collection: str) -> list[pb.Model]:
    """Newest first; of all collections if none is named."""
    request = pb.ListModelsRequest(collection=collection, page_size=LIST_PAGE)
    pages = read_pages(stub_of(quarry).ListModels, request, quarry.timeout_s)
    return [model for page in pages for model in page.models]


def all_rankings(quarry: Connection, collection: str) -> list[pb.Ranking]:
    """As ``all_models``, of ranking configurations."""
    request = pb.ListRankingsRequest(collection=collection, page_size=LIST_PAGE)
    pages = read_pages(stub_of(quarry).ListRankings, request, quarry.timeout_s)
    return [ranking for page in pages for ranking in page.rankings]


def imported(quarry: Connection, options: pb.ImportOptions) -> pb.Model:
    """The version made of ``options.source``: if that is a file or folder here, it is sent."""
    path = Path(options.source).expanduser()
    if not path.exists():
        return _import(quarry, iter([pb.ImportModelRequest(options=options)]))
    options.source = ""
    try:
        with _archive(path) as archive:
            return _import(quarry, _pieces(options, archive))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from None


def write_archive(quarry: Connection, name: str, path: Path) -> int:
    """Writes the version's archive; its size in bytes. What was there stays until it is whole."""
    partial = path.with_name(f".{path.name}.part")
    size = 0
    try:
        with partial.open("wb") as file:
            for piece in stub_of(quarry).ExportModel(
                pb.ExportModelRequest(name=name), timeout=quarry.timeout_s
            ):
                size += file.write(piece.archive)
        partial.replace(path)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return size


def _import(quarry: Connection, requests: Iterator[pb.ImportModelRequest]) -> pb.Model:
    return stub_of(quarry).ImportModel(requests, timeout=quarry.timeout_s).model


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[Path]:
    """``path``, or an archive of the folder that it is."""
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.tar"
        with tarfile.open(archive, "w", dereference=True) as file:  # the hub's files are links
            file.add(path, "model")
        yield archive


def _pieces(options: pb.ImportOptions, archive: Path) -> Iterator[pb.ImportModelRequest]:
    yield pb.ImportModelRequest(options=options)
    with archive.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield pb.ImportModelRequest(archive=piece)
