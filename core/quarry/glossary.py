"""The terms that Quarry's pages and reports use: docs/reference/glossary.md is made of them."""

from collections.abc import Mapping

TERMS: Mapping[str, str] = {
    "arm": "A way to find documents: `bm25` by words, `dense` by vectors. A search asks all arms of its "
    "collection and merges what they give.",
    "attribution token": "A signed string in each answer. An event that carries it belongs to that answer.",
    "blend": "How a version that serves adds the score of its re-ranker and the fused score.",
    "calibration": "Two numbers that turn the score of a re-ranker into a probability, `Hit.relevance`.",
    "candidate": "A document that an arm or the fused order gives, before re-ranking. A version that does "
    "not serve yet is in the state CANDIDATE.",
    "cascade": "Two or three re-rankers. The first reads many candidates, and the last reads the best few.",
    "caution": "A reason, such as `FEW_UNSEEN`, why a version that is IMPROVED does not serve by itself.",
    "click model": "A model that tells how relevant a hit is, whatever the rank was that people saw it at.",
    "collection": "Documents of one schema that are searched together.",
    "deadline": "The time that a caller gives a search. An answer that comes in time and lacks a part says "
    "so in `degraded`.",
    "dense arm": "The arm that finds passages whose vectors are near the query's vector.",
    "development queries": "Judged queries that choose while a model is trained: when to stop, and how to "
    "blend. They do not decide.",
    "document log": "The database of all documents. The indexes of the arms are made from it and follow it.",
    "encoder": "The model that makes a vector of a text.",
    "event": "The record of what a person did with a hit: a click, a view, a purchase, a rating, a refusal.",
    "examination": "Whether a person looked at a hit at all. Deeper ranks are examined less.",
    "exploration": "Some hits change places with their neighbours, so that the effect of a rank can be told "
    "from that of a document.",
    "facet": "How many of the documents that match a search have each value of a field.",
    "false negative": "A document that a set takes for a wrong answer although it is a right one.",
    "fused score": "The score that merging the arms gives, before re-ranking.",
    "gate": "The comparison that a version must pass before it serves, on queries that it did not learn "
    "from. A mining set has a gate of its own.",
    "generation": "The indexes of a collection under one encoder and schema. A reindex builds a new "
    "generation beside the one that serves.",
    "guard": "A rule that keeps some events, such as those of programs, from counting as choices of people.",
    "hard negative": "A document that looks like an answer and is none. Re-rankers learn most from these.",
    "impression": "The record of an answer: what was shown, at which rank, to whom.",
    "judged query": "A query with documents that people called relevant or not.",
    "known and unseen": "A query is known if training saw a document that answers it, and unseen otherwise. "
    "The gate looks at unseen queries by themselves.",
    "late interaction": "A re-ranker that compares the tokens of query and passage by their vectors. It is "
    "the default form.",
    "lineage": "The record of what a version was made from: its base, its examples, the time of the "
    "feedback.",
    "member": "A retriever that proposes candidates for negatives.",
    "nDCG@10": "A measure of an order, 0 to 1: relevant documents count more the higher they stand among "
    "the first ten.",
    "passage": "A part of a document that the encoder reads at once, 256 tokens by default.",
    "positive": "A document that answers a query, by a judgment or by clicks.",
    "preset": "A rule that chooses negatives from candidates.",
    "promotion": "The step that makes a version serve. A rollback takes it back.",
    "qrels": "A file of judgments: query, document, grade.",
    "ranking configuration": "The weights, the title's weight and the depth by which the arms of a "
    "collection are merged. `quarry tune` makes versions of it.",
    "re-ranker": "A model that reads the best candidates again and orders them.",
    "reindex": "Quarry builds the indexes of a collection anew, for another encoder or schema, while the "
    "old ones serve.",
    "simulated": "A program made it, not a person. What is learned from simulated clicks carries the word "
    "wherever it appears.",
    "snippet": "The part of a hit's text that is shown, with the words of the query marked.",
    "split cross-encoder": "A re-ranker whose lower layers read query and passage by themselves, so that "
    "their work on a passage can be kept.",
    "states": "What the frozen layers of a re-ranker made of a passage.",
    "verdict": "What the gate says of a model or a ranking configuration: `IMPROVED`, `NO_IMPROVEMENT`, "
    "`REGRESSED`, `INSUFFICIENT_DATA` or `BAD_DATA`. What mining says of its set: `GOOD`, `LOW_COVERAGE`, "
    "`FALSE_NEGATIVES`, `TOO_NEAR_POSITIVE`, `TOO_EASY` or `NO_DATA`.",
    "version": "A model that a collection may serve, such as `faq@3`. It never changes.",
}
"""Each term with its meaning, by the alphabet. Backquotes are around code."""
