"""Everything that mining needs: what is asked, who is asked, and where similarity is measured."""

from dataclasses import dataclass

from quarry.errors import DuplicateError, InvalidArgumentError
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.pair_evidence import NO_FEEDBACK, NoEvidence, PairEvidence
from quarry_miner.examples import MiningQuery
from quarry_miner.members.members import Member
from quarry_miner.members.reranker_member import Judge
from quarry_miner.members.spaces import VectorSpace

DEFAULT_DEPTH = 100


@dataclass(frozen=True, slots=True, eq=False)
class MiningTask:
    """The queries to mine for, and the sources. ``task_builder.py`` makes one for a preset.

    Attributes:
        queries: each id once.
        members: asked for candidates; ``reranker`` is not one of them.
        space: of ``s_qd``, ``s_qp`` and ``s_pd``.
        judge: re-ranker whose probabilities are evidence; asked only for presets that read them, and where
            ``reranker`` is to be a member, as ``judge_is_member`` says.
        knows_relevance: a member gives the relevance that searches get from the re-ranker.
        feedback: of the collection.
        depth: candidates taken from each member for each query, the query's positives not counted.
        notes: recorded choices of the assembly, for people.

    Raises:
        InvalidArgumentError: a query has no positive, or one that the corpus lacks, or an id is there twice.
    """

    queries: tuple[MiningQuery, ...]
    corpus: Corpus
    members: tuple[Member, ...]
    space: VectorSpace
    judge: Judge | None = None
    judge_is_member: bool = False
    knows_relevance: bool = False
    feedback: PairEvidence = NO_FEEDBACK
    depth: int = DEFAULT_DEPTH
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len({query.id for query in self.queries}) != len(self.queries):
            raise DuplicateError("queries", "an id occurs twice")
        for place, query in enumerate(self.queries):
            numbers = [positive.document for positive in query.positives]
            if not numbers or len(set(numbers)) != len(numbers):
                raise InvalidArgumentError(
                    f"queries[{place}].positives", "there is none, or one occurs twice"
                )
            if min(numbers) < 0 or max(numbers) >= len(self.corpus):
                raise InvalidArgumentError(f"queries[{place}].positives", "is not in the corpus")

    @property
    def has_clicks(self) -> bool:
        return not isinstance(self.feedback, NoEvidence)
