"""The memory of a training's base: what it was trained on before, and is not held to again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quarry.mining.spec import JudgedQuery
from quarry.training.hashes import mark_document, mark_queries
from quarry.training.provenance import TrainingProvenance, join_provenances, read_provenance
from quarry.training.spec import TrainingSpec
from quarry_trainer.data.dataset import Group, list_learned_documents
from quarry_trainer.data.division import Before
from quarry_trainer.data.entities import NO_ENTITIES, Entities


@dataclass(frozen=True, slots=True)
class Memory:
    """The queries and documents that a model has read, as far as they concern one collection."""

    provenance: TrainingProvenance
    collection: str

    def has_read(self, query: JudgedQuery) -> bool:
        """Tells whether it learned from a query that is the same question."""
        return self.provenance.has_query(query.text)

    def has_seen(self, query: JudgedQuery, entities: Entities = NO_ENTITIES) -> bool:
        """Tells whether it learned a relevant document of the query, or one that speaks of the same thing, as
        relevant to some query."""
        return not self.is_new((id for id, grade in query.judgments.items() if grade > 0), entities)

    def is_new(self, documents: Iterable[str], entities: Entities = NO_ENTITIES) -> bool:
        """Tells whether it learned none of these as relevant, and nothing that they speak of."""
        return not any(self._knows(id, entities) for id in documents)

    def _knows(self, id: str, entities: Entities) -> bool:
        thing = entities.get(id)
        return self.provenance.has_document(self.collection, id) or (
            thing is not None and self.provenance.has_entity(self.collection, thing)
        )

    def find_read(self, queries: Sequence[JudgedQuery], entities: Entities = NO_ENTITIES) -> Before:
        """Finds which of these queries, and of their documents, it has read.

        Documents are named by what they speak of, where ``entities`` says that.
        """
        documents = {document for query in queries for document in query.judgments}
        seen = (id for id in documents if self._knows(id, entities))
        return Before(
            frozenset(query.id for query in queries if self.has_read(query)),
            frozenset(entities.get(id, id) for id in seen),
        )


NO_MEMORY = Memory(TrainingProvenance(), "")


def read_base_provenance(spec: TrainingSpec) -> TrainingProvenance:
    """Reads the provenance of the models that a training starts and learns from. Raises ModelError."""
    models = [spec.base, *([spec.teacher] if spec.teacher else [])]
    return join_provenances(read_provenance(Path(model.folder), model.name) for model in models)


def make_provenance(
    groups: Iterable[Group], collection: str, entities: Entities = NO_ENTITIES
) -> TrainingProvenance:
    """Makes the provenance that is written down of a training on ``groups``."""
    groups = list(groups)
    learned = list_learned_documents(groups)
    return TrainingProvenance(
        mark_queries(group.query for group in groups),
        frozenset(mark_document(collection, id) for id in learned),
        entities=frozenset(mark_document(collection, entities[id]) for id in learned if id in entities),
    )
