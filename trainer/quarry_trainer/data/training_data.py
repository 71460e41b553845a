"""The data of a training: its examples with the passages and scores that the live first stage gives them."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from quarry.jobs.files import write_bytes
from quarry.judgments import Disputed
from quarry.mining.spec import JudgedQuery
from quarry.training.provenance import TrainingProvenance
from quarry.training.spec import TrainingSpec
from quarry_trainer.data.absent_documents import find_absent_documents
from quarry_trainer.data.contradictions import settle_queries
from quarry_trainer.data.dataset import BadExamplesError, Examples, Group, TextGroup
from quarry_trainer.data.entities import Entities, TitlesOf, find_entities, list_relevant
from quarry_trainer.data.judged_sample import find_relabelled
from quarry_trainer.data.live import DEPTH, Counted, LiveSearch, RankedQuery
from quarry_trainer.data.model_memory import Memory, make_provenance, read_base_provenance
from quarry_trainer.data.query_split import QuerySplit, split_queries
from quarry_trainer.data.text_groups import make_text_groups

RANKED, ENTITIES = "ranked.json", "entities.json"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that one training reads.

    Attributes:
        split: queries by what they are for.
        groups: drawn of ``split.train``, to be learned from.
        texts: those of ``groups`` that can be read, with their passages.
        ranked: candidates of each query that is learned from, chosen by or decided by, by id.
        base_provenance: what the models had read that the training starts and learns from.
        provenance: the same with ``groups``.
        relabelled: by held-out query, documents that only a model has called relevant.
        in_file: groups and negatives of the whole file, without what was dropped as it was read.
        entities: what relevant documents speak of.
        disputed: judgments that contradicted each other.
        absent: documents that judgments call relevant and the collection lacks.
    """

    split: QuerySplit
    groups: tuple[Group, ...]
    texts: tuple[TextGroup, ...]
    ranked: Mapping[str, RankedQuery]
    base_provenance: TrainingProvenance
    provenance: TrainingProvenance
    relabelled: Mapping[str, Set[str]]
    in_file: tuple[int, int]
    entities: Entities
    disputed: Disputed
    absent: tuple[str, ...]

    @classmethod
    def gather(
        cls,
        spec: TrainingSpec,
        examples: Examples,
        live: LiveSearch,
        most_groups: int,
        work: Path,
        counted: Counted,
    ) -> "TrainingData":
        """Splits the queries, draws groups, and asks the live server for candidates and passages.

        Args:
            most_groups: that are drawn.
            work: keeps entities and candidates, should the job be interrupted.

        Raises:
            BadExamplesError: nothing is left to learn from.
            ModelError: what the base has read cannot be told.
        """
        base_provenance = read_base_provenance(spec)
        judgments, disputed = settle_queries(spec.judgments)
        entities = find_entities_once(_list_relevant(examples, judgments), live.titles, work)
        split = split_queries(examples, judgments, Memory(base_provenance, spec.collection), entities)
        groups = _draw(split.train, most_groups, spec.seed)
        held_out = {query.id: query.text for query in (*split.development, *split.gate)}
        asked = {group.query_id: group.query for group in groups} | held_out
        ranked = rank_once(live, asked, DEPTH, work, counted)
        texts = make_text_groups(groups, ranked, live.matching_passages, examples.dropped)
        if not texts:
            raise BadExamplesError("of no example are both the positive and a negative in the collection")
        provenance = base_provenance | make_provenance(groups, spec.collection, entities)
        relabelled = find_relabelled(examples, [*split.development, *split.gate])
        return cls(
            split,
            tuple(groups),
            tuple(texts),
            ranked,
            base_provenance,
            provenance,
            relabelled,
            _count(examples.groups),
            entities,
            disputed,
            find_absent_documents(judgments, live.titles),
        )

    def count_usable(self) -> dict[str, object]:
        """Counts groups, and negatives alike: of the whole file, without what was dropped; held out; drawn,
        for as many steps as the training makes; and, of those, with a text that can be read."""
        drawn, usable = _count(self.groups), _count(self.texts)
        free = _count(self.split.train)
        return {
            name: {"file": of, "held_out": of - left, "drawn": taken, "usable": read}
            for name, of, left, taken, read in zip(
                ("groups", "negatives"), self.in_file, free, drawn, usable, strict=True
            )
        }

    def describe_unreached(self, steps: int) -> tuple[str, ...]:
        """Describes in one sentence which groups a training of so many steps does not reach; none if it
        reaches all."""
        left = len(self.split.train) - len(self.groups)
        if not left:
            return ()
        return (
            f"{left:,} of {len(self.split.train):,} groups are not reached in {steps:,} steps; with more "
            "steps (--steps) others are drawn, too",
        )


def _count(groups: Iterable[Group] | Iterable[TextGroup]) -> tuple[int, int]:
    """Counts groups and their negatives."""
    sizes = [sum(not relevant for relevant in group.relevant) for group in groups]
    return len(sizes), sum(sizes)


def _list_relevant(examples: Examples, judged: Sequence[JudgedQuery]) -> list[str]:
    own = (id for grades in examples.positives.values() for id in grades)
    return [*own, *list_relevant(judged)]


def _draw(groups: Sequence[Group], most: int, seed: int) -> list[Group]:
    """Draws so many groups at random; all, if there are fewer."""
    if len(groups) <= most:
        return list(groups)
    drawn = np.random.default_rng(seed).choice(len(groups), most, replace=False)
    return [groups[place] for place in np.sort(drawn)]


def find_entities_once(documents: Sequence[str], titles: TitlesOf, work: Path) -> Entities:
    """Names documents as ``find_entities`` does; as they were at first if the job was interrupted.

    By other names other queries would be held out, and a checkpoint may have learned from those.
    """
    kept = work / ENTITIES
    if kept.exists():
        named: Entities = orjson.loads(kept.read_bytes())
        return named
    found = find_entities(documents, titles)
    write_bytes(kept, orjson.dumps(found))
    return found


def rank_once(
    live: LiveSearch, queries: Mapping[str, str], depth: int, work: Path, counted: Counted
) -> dict[str, RankedQuery]:
    """Ranks each query by the first stage, by id; as it was at first if the job was interrupted."""
    kept = work / RANKED
    if kept.exists():
        found = [_from_json(one) for one in orjson.loads(kept.read_bytes())]
        if {query.query_id: query.text for query in found} == {id: t.strip() for id, t in queries.items()}:
            return {query.query_id: query for query in found}
    ranked = live.rank(queries, depth, counted)
    write_bytes(kept, orjson.dumps([_to_json(query) for query in ranked]))
    return {query.query_id: query for query in ranked}


def _to_json(query: RankedQuery) -> dict[str, object]:
    return {
        "query_id": query.query_id,
        "text": query.text,
        "documents": query.documents,
        "fused": query.fused.tolist(),
        "passages": query.passages,
        "arms": query.arms,
    }


def _from_json(one: Mapping[str, list[object]]) -> RankedQuery:
    return RankedQuery(
        str(one["query_id"]),
        str(one["text"]),
        tuple(map(str, one["documents"])),
        np.array(one["fused"], np.float64),
        tuple(map(str, one["passages"])),
        tuple(tuple(arms) for arms in one["arms"]),  # type: ignore[arg-type]
    )
