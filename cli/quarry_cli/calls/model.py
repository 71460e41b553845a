"""Calls of ModelService whose answers or requests come in pieces."""

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from quarry.client import Client
from quarry.v1 import model_service_pb2 as pb
from quarry_cli.failures import name_file

LIST_PAGE = 1_000


def fetch_models(quarry: Client, collection: str) -> list[pb.Model]:
    """Fetches models, newest first; of all collections if none is named."""
    request = pb.ListModelsRequest(collection=collection, page_size=LIST_PAGE)
    pages = quarry.pages(quarry.models.ListModels, request)
    return [model for page in pages for model in page.models]


def fetch_rankings(quarry: Client, collection: str) -> list[pb.Ranking]:
    """Fetches ranking configurations as ``fetch_models`` does models."""
    request = pb.ListRankingsRequest(collection=collection, page_size=LIST_PAGE)
    pages = quarry.pages(quarry.models.ListRankings, request)
    return [ranking for page in pages for ranking in page.rankings]


def run_import(quarry: Client, options: pb.ImportOptions) -> pb.Model:
    """Makes a version of ``options.source``: if that is a file or folder here, it is sent."""
    path = Path(options.source).expanduser()
    if not path.exists():
        return quarry.import_model(options)
    options.source = ""
    with name_file(path), _open_archive(path) as archive:
        return quarry.import_model(options, archive)


def write_archive(quarry: Client, name: str, path: Path) -> int:
    """Writes the version's archive; returns its size in bytes. What was there stays until it is whole."""
    with name_file(path):
        return quarry.export_model(name, path)


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[Path]:
    """Yields ``path``, or an archive of the folder that it is."""
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.tar"
        with tarfile.open(archive, "w", dereference=True) as file:  # the hub's files are links
            file.add(path, "model")
        yield archive
