"""The ensemble's basis, kept beside a set so that later sets can use it again."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from quarry.jobs.files import write_bytes
from quarry_miner.members.ensemble import EnsembleQueries, PcaBasis
from quarry_miner.mining.task import MiningTask

FILE = "basis.npz"


def get_basis(task: MiningTask) -> PcaBasis | None:
    """Returns the basis; None where similarities are not measured in an ensemble's space."""
    queries = task.space.queries
    return queries.basis if isinstance(queries, EnsembleQueries) else None


def compute_basis_digest(basis: PcaBasis | None) -> str:
    if basis is None:
        return ""
    return hashlib.blake2b(basis.mean.tobytes() + basis.components.tobytes(), digest_size=16).hexdigest()


def write_basis(folder: Path, basis: PcaBasis) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, mean=basis.mean, components=basis.components, explained=basis.explained)
    write_bytes(folder / FILE, buffer.getvalue())


def read_basis(folder: Path) -> PcaBasis | None:
    """Reads the basis; None if there is none that can be read."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as found:
            return PcaBasis(found["mean"], found["components"], float(found["explained"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # the last one if a checksum is wrong
        return None
