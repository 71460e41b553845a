"""Puts a task together for a preset: members and space by name, from what the collection has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from quarry.client import Client
from quarry.documents.catalog import PassagePolicy
from quarry.documents.passages import PassageCutter, build_passage_texts
from quarry.documents.vector_cache import VectorCache
from quarry.errors import FailedPreconditionError
from quarry.mining.members import ENCODER_PREFIX, FUSED, LSA, RERANKER, check_members
from quarry.models.base import CrossEncoder, Encoder
from quarry.retrieval.bm25_arm import BM25
from quarry.retrieval.dense_arm import DENSE
from quarry.retrieval.registry import ARMS
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.pair_evidence import NO_FEEDBACK, PairEvidence
from quarry_miner.examples import MiningQuery
from quarry_miner.members.ensemble import PcaBasis, build_ensemble
from quarry_miner.members.live_arm import LiveArm
from quarry_miner.members.live_pool import LivePool
from quarry_miner.members.lsa import fit_lsa
from quarry_miner.members.matrix import EXACT_PASSAGES
from quarry_miner.members.members import Member, VectorMember
from quarry_miner.members.reranker_member import NO_BELIEF, Belief, Reranker
from quarry_miner.members.spaces import VectorSpace, build_encoder_space
from quarry_miner.mining.task import DEFAULT_DEPTH, MiningTask
from quarry_miner.presets.base import Need, Preset, SpaceKind


@dataclass(frozen=True, slots=True)
class LiveArms:
    """The access to the server's arms. ``dense``: ask its dense arm too, where exact search in memory
    would do."""

    client: Client
    collection: str
    dense: bool = False


@dataclass(frozen=True, eq=False)
class Sources:
    """The sources that a collection has to mine with. Spaces are made when first asked for, each once.

    Attributes:
        cache: the collection's vectors, queries' included.
        encoder: the collection's; None if it has no dense arm.
        policy: how the collection cuts documents, for every encoder.
        load_encoder: further encoders by name.
        arms: None without a server; ``lexical`` then stands in for its lexical arm.
        cross_encoder: the serving re-ranker; None without one. ``belief``: what its scores say of relevance.
        basis: of an earlier run's ensemble.
        seed: of the analysis of the corpus.
    """

    corpus: Corpus
    cache: VectorCache
    encoder: Encoder | None
    policy: PassagePolicy
    load_encoder: Callable[[str], Encoder]
    arms: LiveArms | None = None
    lexical: Member | None = None
    cross_encoder: CrossEncoder | None = None
    belief: Belief = NO_BELIEF
    basis: PcaBasis | None = None
    seed: int = 0
    _encoders: dict[str, VectorSpace] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def dense(self) -> VectorSpace:
        """Raises FailedPreconditionError if the collection has no encoder."""
        if self.encoder is None:
            raise FailedPreconditionError("the collection has no dense arm", need=DENSE.name)
        return build_encoder_space(DENSE.name, self.corpus, self.encoder, self.policy, self.cache)

    @property
    def judge(self) -> Reranker | None:
        """The serving re-ranker, which reads documents as they are cut for searches; None without one."""
        if self.cross_encoder is None:
            return None
        if self.encoder is None:
            return Reranker(self.cross_encoder, self.corpus, belief=self.belief)
        cutter = PassageCutter(self.encoder, self.policy)
        return Reranker(
            self.cross_encoder,
            self.corpus,
            lambda source: build_passage_texts(source, cutter.cut([source])[0]),
            self.belief,
        )

    @cached_property
    def lsa(self) -> VectorSpace:
        return fit_lsa(self.corpus, self.seed)

    def open_encoder(self, name: str) -> VectorSpace:
        """Opens the space of a further encoder, ``encoder:MODEL``."""
        if name not in self._encoders:
            encoder = self.load_encoder(name.removeprefix(ENCODER_PREFIX))
            self._encoders[name] = build_encoder_space(name, self.corpus, encoder, self.policy, self.cache)
        return self._encoders[name]

    def open_space(self, name: str) -> VectorSpace:
        """Opens the space of a member that has vectors."""
        return self.dense if name == DENSE.name else self.lsa if name == LSA else self.open_encoder(name)


def assemble(
    preset: Preset,
    queries: Sequence[MiningQuery],
    sources: Sources,
    members: Sequence[str] = (),
    depth: int = DEFAULT_DEPTH,
    feedback: PairEvidence | None = None,
) -> MiningTask:
    """Assembles a task for ``preset``; its own members where none are named. Encodes what is not cached.
    Blocks.

    Raises:
        InvalidArgumentError: there is no such member, which names the nearest, or one is there twice.
        FailedPreconditionError: the collection lacks what a member or the preset needs.
        ModelError: an encoder cannot be used.
    """
    names = members or _choose_own_members(preset, sources)
    check_members(names)
    space, space_notes = _build_space(preset, names, sources)
    asked = [name for name in names if name != RERANKER]
    judged = RERANKER in names or Need.RERANKER in preset.needs
    if judged and sources.cross_encoder is None:
        raise FailedPreconditionError(
            f"the preset {preset.name} or its members need a re-ranker, and the collection has none",
            preset=preset.name,
            need=Need.RERANKER,
        )
    knows_relevance = FUSED in names and not sources.belief.unknown
    judge = sources.judge if judged else None
    found = [_build_member(name, sources) for name in asked]
    if preset.space is SpaceKind.ENSEMBLE:
        found.append((VectorMember(space), ""))
    return MiningTask(
        queries=tuple(queries),
        corpus=sources.corpus,
        members=tuple(member for member, _ in found),
        space=space,
        judge=judge,
        judge_is_member=RERANKER in names,
        knows_relevance=knows_relevance,
        feedback=NO_FEEDBACK if feedback is None else feedback,
        depth=depth,
        notes=(
            *space_notes,
            *(note for _, note in found if note),
            *(() if knows_relevance else _describe_doubt(judge)),
            *_describe_unused_relevance(preset, names, sources.belief),
        ),
    )


def _describe_doubt(judge: Reranker | None) -> tuple[str, ...]:
    """Says what is to know of a judge that only orders."""
    if judge is None or not judge.belief.lacking:
        return ()
    return (
        f"{judge.belief.lacking}: its order counts, and no candidate is dropped, refuted or re-labelled by a "
        "probability",
    )


def _describe_unused_relevance(preset: Preset, names: Sequence[str], belief: Belief) -> tuple[str, ...]:
    """Describes that the re-ranker tells relevance, and that the named members do not bring it."""
    if belief.unknown or FUSED in names or FUSED not in preset.members:
        return ()
    return (
        f"the re-ranker that serves tells relevance, and only the member {FUSED} knows it, which is not "
        f"named: {_UNJUDGED}",
    )


def _choose_own_members(preset: Preset, sources: Sources) -> list[str]:
    """Chooses the preset's members; without an encoder, LSA in place of the dense arm."""
    missing = DENSE.name if sources.encoder is None else ""
    return [LSA if name == missing else name for name in preset.members]


def _has_vectors(name: str) -> bool:
    return name in (DENSE.name, LSA) or name.startswith(ENCODER_PREFIX)


def _build_space(
    preset: Preset, names: Sequence[str], sources: Sources
) -> tuple[VectorSpace, tuple[str, ...]]:
    if preset.space is SpaceKind.ENSEMBLE:
        parts = [sources.open_space(name) for name in names if _has_vectors(name)]
        if not parts:
            raise FailedPreconditionError(
                f"the preset {preset.name} joins vectors, and no member has any: name dense or lsa"
            )
        space, _ = build_ensemble(parts, known=sources.basis)
        return space, ()
    if sources.encoder is None:
        return sources.lsa, ("the collection has no encoder: similarities are those of lsa",)
    return sources.dense, ()


_JUDGED = "the relevance that the serving re-ranker gives says what is likely to be an answer"
_UNJUDGED = "nothing is dropped or re-labelled by a probability"


def _build_member(name: str, sources: Sources) -> tuple[Member, str]:
    """Builds the member, and says what was decided about it."""
    arms = sources.arms
    if name == FUSED:
        if arms is None:
            raise FailedPreconditionError(
                "the member fused needs the server, and it is not reached", need=FUSED
            )
        unknown = "no re-ranker serves" if sources.belief is NO_BELIEF else sources.belief.unknown
        return (
            LivePool(sources.corpus, arms.client, arms.collection, judged=not unknown),
            f"fused: the live first stage; {f'{unknown}, so {_UNJUDGED}' if unknown else _JUDGED}",
        )
    if name not in ARMS:
        return VectorMember(sources.open_space(name)), ""
    if name == DENSE.name:
        passages = len(sources.dense.documents.vectors)
        if arms is None or not (arms.dense or passages > EXACT_PASSAGES):
            return VectorMember(sources.dense), f"{name}: exact search in memory over {passages} passages"
    if arms is not None:
        return LiveArm(name, sources.corpus, arms.client, arms.collection), f"{name}: the live arm"
    if name == BM25.name and sources.lexical is not None:
        return sources.lexical, f"{name}: an index of this process"
    raise FailedPreconditionError(f"the member {name} needs the server, and it is not reached", need=name)
