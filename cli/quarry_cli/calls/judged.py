"""Judged documents and a collection: which of them it holds."""

from collections.abc import Iterable, Iterator, Sequence

import grpc

from quarry.client import Client, QuarryCallError
from quarry.v1 import document_service_pb2
from quarry_cli.calls.runs import CONCURRENT_CALLS, call_concurrently
from quarry_cli.console import count_things, make_progress, warn
from quarry_cli.failures import CliError
from quarry_cli.inputs.judgments import Qrels
from quarry_cli.inputs.lines import list_names
from quarry_cli.inputs.run_file import Ranked

ABSENT = "absent_documents"
PIECE = 16 * CONCURRENT_CALLS


def count_judgments(qrels: Qrels) -> dict[str, int]:
    """Counts queries, judgments, and documents that are judged, all and relevant ones."""
    return {
        "queries": len(qrels),
        "judgments": sum(len(own) for own in qrels.values()),
        "judged_documents": len(_list_documents(qrels)),
        "relevant_documents": len(_list_documents(qrels, relevant=True)),
    }


def check_judged_documents(quarry: Client, collection: str, qrels: Qrels) -> None:
    """Raises CliError if the collection has none of the judged documents: it looks until it finds one."""
    documents = sorted(_list_documents(qrels))
    for piece in _cut(documents):
        if any(_check_present(quarry, collection, piece)):
            return
    raise CliError(
        f"0 of {len(documents):,} judged documents are in this collection ({list_names(documents)})",
        "are the judgments of another collection, or its ids others than these?",
    )


def find_absent_documents(quarry: Client, collection: str, qrels: Qrels, runs: Iterable[Ranked]) -> list[str]:
    """Finds judged documents that the collection lacks, sorted: no run can find them.

    Only those that no run returned are asked for.
    """
    found = {id for run in runs for ids in run.values() for id in ids}
    doubtful = sorted(_list_documents(qrels) - found)
    absent: list[str] = []
    with make_progress() as bar:
        task = bar.add_task("judged documents", total=len(doubtful))
        for piece in _cut(doubtful):
            there = _check_present(quarry, collection, piece)
            absent += [id for id, present in zip(piece, there, strict=True) if not present]
            bar.advance(task, len(piece))
    return absent


def warn_of_absent_documents(absent: Sequence[str], qrels: Qrels) -> None:
    """Says how many judged documents the collection lacks, and names some relevant ones."""
    if not absent:
        return
    relevant = sorted(_list_documents(qrels, relevant=True) & set(absent))
    said = f"{len(absent):,} of {len(_list_documents(qrels)):,} judged documents are not in this collection"
    if relevant:
        lacks = count_things(
            len(relevant), "document that is judged relevant", "documents that are judged relevant"
        )
        said += f"; the collection lacks {lacks}: {list_names(relevant)}"
    warn(said)


def _list_documents(qrels: Qrels, relevant: bool = False) -> set[str]:
    return {id for own in qrels.values() for id, grade in own.items() if grade > 0 or not relevant}


def _cut(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + PIECE] for start in range(0, len(ids), PIECE))


def _check_present(quarry: Client, collection: str, ids: Sequence[str]) -> list[bool]:
    def is_present(id: str) -> bool:
        request = document_service_pb2.GetDocumentRequest(collection=collection, id=id)
        try:
            quarry.documents.GetDocument(request)
        except QuarryCallError as error:
            if error.code is grpc.StatusCode.NOT_FOUND and error.reason == "DOCUMENT_NOT_FOUND":
                return False
            raise
        return True

    return call_concurrently(is_present, ids)
