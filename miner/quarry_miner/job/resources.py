"""The resources of a collection for mining: its models, its cached vectors, and the way to its live arms."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from quarry.client import Client
from quarry.documents.catalog import NO_ENCODER, Collection
from quarry.documents.vector_cache import VectorCache
from quarry.jobs.child import CHANNEL_OPTIONS
from quarry.mining.members import RERANKER
from quarry.mining.spec import MiningSpec
from quarry.models.base import CrossEncoder, Encoder
from quarry.models.blend import read_blend
from quarry.models.caches.state_cache import StateCache
from quarry.models.calibration import read_calibration
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.encoder import load_encoder
from quarry.models.sources.resolve import resolve_model
from quarry.registry.store import locate_version
from quarry_miner.corpus import Corpus
from quarry_miner.job.task_builder import LiveArms, Sources
from quarry_miner.members.ensemble import PcaBasis
from quarry_miner.members.reranker_member import NO_BELIEF, Belief
from quarry_miner.presets.base import Need, Preset

VECTORS = "vectors.db"
STATE_BYTES = 2 * 2**30
"""Memory, at most, for what a split re-ranker's lower layers make of passages, which many queries share:
some 21,000 of 128 tokens. Half a GiB did not hold scifact, whose passages were read again and again."""


@contextmanager
def open_materials(
    data: Path,
    collection: Collection,
    corpus: Corpus,
    spec: MiningSpec,
    preset: Preset,
    members: Sequence[str],
    basis: PcaBasis | None,
) -> Iterator[Sources]:
    """Loads the collection's encoder, and its re-ranker if the preset asks for one, or it is a member.

    Raises:
        ModelError: one of them cannot be loaded.
    """
    settings = collection.settings
    judged = RERANKER in members or Need.RERANKER in preset.needs
    with (
        closing(VectorCache(data / VECTORS)) as cache,
        Client(spec.server, options=CHANNEL_OPTIONS) as client,
    ):
        yield Sources(
            corpus=corpus,
            cache=cache,
            encoder=None if settings.encoder == NO_ENCODER else _load_encoder(settings.encoder, data),
            policy=settings.passages,
            load_encoder=lambda name: _load_encoder(name, data),
            arms=LiveArms(client, spec.collection),
            cross_encoder=_cross_encoder(settings.reranker, data) if judged and settings.reranker else None,
            belief=_read_belief(collection, data) if settings.reranker else NO_BELIEF,
            basis=basis,
            seed=spec.seed,
        )


def _load_encoder(name: str, data: Path) -> Encoder:
    """Loads a registered version or any other model, as for ``_cross_encoder``."""
    return load_encoder(name, data, folder=locate_version(data, name))


def _cross_encoder(name: str, data: Path) -> CrossEncoder:
    states = StateCache(STATE_BYTES)
    return load_cross_encoder(name, data, folder=locate_version(data, name), states=states)


def _read_belief(collection: Collection, data: Path) -> Belief:
    name = collection.settings.reranker
    folder = locate_version(data, name) or resolve_model(name, data).path
    return Belief(read_blend(folder), read_calibration(folder), collection.ranking_name)


def list_versions(sources: Sources) -> dict[str, str]:
    """Lists the versions of what a set's rows depend on."""
    found = {name: version(name) for name in ("quarry-search", "numpy", "scikit-learn", "pyarrow")}
    models = {"encoder": sources.encoder, "reranker": sources.cross_encoder}
    return found | {name: model.info.fingerprint for name, model in models.items() if model is not None}
