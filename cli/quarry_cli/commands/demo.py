"""`quarry demo`: the whole loop in one go, from an empty folder to a re-ranker that serves."""

import json
import shlex
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.rule import Rule
from rich.table import Table

from quarry.client import Client
from quarry.v1 import (
    collection_service_pb2,
    mining_service_pb2,
    search_service_pb2,
    training_service_pb2,
)
from quarry.v1 import model_service_pb2 as models_pb
from quarry_cli.calls.mining import run_mining, write_examples, write_page
from quarry_cli.calls.sessions import Simulation, run_sessions
from quarry_cli.calls.training import promote_version, run_training, upload
from quarry_cli.calls.visibility import wait_searchable
from quarry_cli.checks.check import SERVER_EXTRA, is_server_installed
from quarry_cli.commands.evaluation.evaluate import make_runs, measure_runs, show_figures
from quarry_cli.commands.index import Conversion, Reading, Summary, write_files
from quarry_cli.commands.mine import read_judged_queries
from quarry_cli.commands.search import show_search
from quarry_cli.commands.simulate import make_simulated_users, report
from quarry_cli.connection import connect
from quarry_cli.console import err, make_plain, make_progress, note, out
from quarry_cli.failures import CliError
from quarry_cli.files.batches import Failures
from quarry_cli.inputs.judgments import Qrels, read_qrels
from quarry_cli.inputs.sample import SampleFiles, find_sample
from quarry_cli.inputs.schema_file import to_schema_message
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server
from quarry_cli.views.mining import show_set
from quarry_cli.views.snippets import SHOWN
from quarry_cli.views.training import IMPROVED, name_verdict, show_model

if TYPE_CHECKING:
    from quarry_cli.views.figures import Figures

COLLECTION = "faq"
BATCH_BYTES = 2**20
CALL_TIMEOUT_S = 240.0
ASKED, SESSIONS, SWAP = 400, 3_200, 0.1
"""Queries that simulated users ask, how often in all, and how often two neighbours change places."""
TURNS = 2
"""Of the loop. The second one learns from clicks on what the first one has made."""
NEGATIVES, ANSWERS = "negatives.parquet", "answers.json"
SHOWN_HITS = 3
SEARCHES = (
    ("In words that the answer does not use:", "get rid of my fb profile for good", ()),
    ("And why each hit stands where it does:", "who has looked at my profile", ("--explain",)),
    ("No character has a special meaning:", 'gmail:"undo* send?? AND (NOT ~[title:^9', ()),
)
"""What each search shows, its query, and the options that one would type."""
SCHEMA = {
    "fields": [
        {"name": "title", "type": "text", "searchable": False, "embedded": False},
        {"name": "text", "type": "text"},
    ]
}
"""Only answers are searched. With the questions above them there would be nothing left to learn."""
JUDGED, MEASURED = 200, 75
"""Queries to choose and to decide by, and others that are measured before and after."""


def demo(
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the server's data in this folder, which must be empty."),
    ] = None,
) -> None:
    """See Quarry at work: starts a server of its own, indexes a sample, searches and measures it, and learns.

    Its users are simulated: they click on what they find, hard negatives are mined from that, a re-ranker is
    trained on them, and serves if it is proven to be better. Then they click on what it shows, and all begins
    anew. Some ten minutes on two cores.
    """
    if not is_server_installed():
        raise CliError("the server's packages are not installed", SERVER_EXTRA)
    sample = find_sample()
    with open_work_folder(keep) as folder:
        files = divide(sample, folder)
        note("starting a server in a folder of its own")
        with run_server(folder) as address, connect(address, CALL_TIMEOUT_S, plaintext=True) as quarry:
            note(f"it listens on {address}")
            fill(quarry, sample, folder)
            search_it(quarry)
            found = {"before": measure(quarry, files, "How good is it?")["fused"]}
            for turn in range(TURNS):
                click(quarry, files, turn)
                mine(quarry, folder)
                made = train(quarry, files, folder)
                if promote(quarry, made):
                    found[made.name] = measure(quarry, files, "The same searches again")["reranked"]
            if len(found) > 1:
                compare(found)
    say_what_next(keep)


@contextmanager
def open_work_folder(keep: Path | None) -> Iterator[Path]:
    """Yields a folder that goes away at the end, unless it is to be kept."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="quarry-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise CliError(f"{keep} is not an empty folder")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep


def fill(quarry: Client, sample: SampleFiles, folder: Path) -> None:
    """Makes the collection and waits until all of the sample is searchable."""
    print_heading(
        "Index",
        f"quarry collection create {COLLECTION} --schema {ANSWERS}",
        f"quarry index {COLLECTION} corpus.jsonl --wait searchable",
    )
    wanted = collection_service_pb2.Collection(
        name=COLLECTION, description="Help for web applications", schema=to_schema_message(SCHEMA)
    )
    request = collection_service_pb2.CreateCollectionRequest(collection=wanted)
    (folder / ANSWERS).write_text(json.dumps(SCHEMA, indent=1), encoding="utf-8")
    note("loading the encoder; the first time it is converted, which takes a minute or so")
    with err.status("loading the encoder"):
        quarry.collections.CreateCollection(request)
    summary, failures, start = Summary(COLLECTION), Failures(), time.monotonic()
    write_files(quarry, Reading([sample.corpus]), Conversion(BATCH_BYTES), summary, failures)
    if failures.count:
        raise CliError(f"{failures.count} documents were not written, the first: {failures.first[0].reason}")
    wait_searchable(quarry, COLLECTION, summary.writes)
    out.print(f"{summary.documents:,} documents searchable in {time.monotonic() - start:.1f} s")


def search_it(quarry: Client) -> None:
    for heading, query, options in SEARCHES:
        print_heading(
            heading,
            " ".join(("quarry search", COLLECTION, shlex.quote(query), "-k", str(SHOWN_HITS), *options)),
        )
        request = search_service_pb2.SearchRequest(
            collection=COLLECTION,
            query=query,
            page_size=SHOWN_HITS,
            explain="--explain" in options,
            snippets=SHOWN,
        )
        show_search(quarry, request)


@dataclass(frozen=True, slots=True)
class Files:
    """Texts of queries, and judgments of three parts of them: nobody asks what is judged or measured."""

    queries: Path
    asked: Path
    judged: Path
    measured: Path


def divide(sample: SampleFiles, folder: Path) -> Files:
    """Divides the judgments: what the gate judges by is not what is measured in the end."""
    needs, qrels = read_qrels(sample.needs), read_qrels(sample.qrels)
    ids = _shuffle(qrels)
    files = Files(sample.queries, *(folder / f"{name}.tsv" for name in ("asked", "judged", "measured")))
    _write(files.asked, {id: needs[id] for id in _shuffle(needs)[:ASKED]})
    _write(files.judged, {id: qrels[id] for id in ids[:JUDGED]})
    _write(files.measured, {id: qrels[id] for id in ids[JUDGED : JUDGED + MEASURED]})
    return files


def _shuffle(ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=lambda id: zlib.crc32(id.encode()))


def _write(path: Path, qrels: Qrels) -> None:
    lines = [
        f"{id}\t{document}\t{grade}" for id, grades in qrels.items() for document, grade in grades.items()
    ]
    path.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines, ""]), encoding="utf-8")


def measure(quarry: Client, files: Files, heading: str) -> "dict[str, Figures]":
    print_heading(heading, f"quarry evaluate {COLLECTION} --queries queries.jsonl --qrels measured.tsv")
    qrels = read_qrels(files.measured)
    results = measure_runs(make_runs(quarry, COLLECTION, read_queries(files.queries, set(qrels))).runs, qrels)
    show_figures(results)
    return results


def click(quarry: Client, files: Files, turn: int) -> None:
    print_heading(
        f"Turn {turn + 1} of the loop. Who chose what? (simulated users, not people)",
        f"quarry simulate {COLLECTION} --queries queries.jsonl --qrels asked.tsv "
        f"--sessions {SESSIONS} --skew 0 --swap {SWAP} --seed {turn}",
    )
    judged = read_qrels(files.asked)
    texts = read_queries(files.queries, set(judged))
    simulation = Simulation(
        COLLECTION, list(texts.items()), judged, make_simulated_users(), skew=0.0, swap=SWAP, seed=turn
    )
    with make_progress() as bar:
        visits = run_sessions(quarry, simulation, SESSIONS, bar)
    report(visits, simulation, json=False)


def mine(quarry: Client, folder: Path) -> None:
    out_file = folder / NEGATIVES
    print_heading(
        "What was wrong, and looked right? Negatives to train a re-ranker on",
        f"quarry mine {COLLECTION} --from-feedback --out negatives.parquet --report negatives.html",
    )
    feedback = mining_service_pb2.FeedbackPositives()
    made = run_mining(
        quarry, mining_service_pb2.MineHardNegativesRequest(collection=COLLECTION, feedback=feedback)
    )
    write_examples(quarry, made.name, out_file)
    write_page(quarry, made.name, out_file.with_suffix(".html"))
    show_set(made, out_file)


def train(quarry: Client, files: Files, folder: Path) -> models_pb.Model:
    print_heading(
        "Can a re-ranker learn from that? It is held to queries that nobody asked",
        f"quarry train {COLLECTION} --examples negatives.parquet --queries queries.jsonl --qrels judged.tsv",
    )
    request = training_service_pb2.TrainRerankerRequest(
        collection=COLLECTION,
        examples=upload(quarry, folder / NEGATIVES),
        judgments=read_judged_queries(files.queries, files.judged),
    )
    made = run_training(quarry, request)
    show_model(made, promoted=False)
    return made


def promote(quarry: Client, made: models_pb.Model) -> bool:
    """Promotes the model if the gate lets it serve."""
    if name_verdict(made) != IMPROVED:
        note(f"the gate refuses it: {name_verdict(made)}. Searches stay as they are.")
        return False
    print_heading("It is better, and shall serve", f"quarry model promote {made.name}")
    if made.cautions:
        note("its cautions are for a person to weigh; here the demo takes that part")
    made = promote_version(quarry, made)
    if made.state != models_pb.MODEL_STATE_SERVING:
        note(made.advice[-1])
        return False
    note("swapped between two searches; the old order is kept: `quarry model rollback faq`")
    return True


def compare(found: "dict[str, Figures]") -> None:
    """Compares what changed for queries that neither training nor the gate has seen.

    Args:
        found: figures before, and with each version that served.
    """
    table = Table(box=box.SIMPLE_HEAD, title="before and after, queries that nothing has seen")
    table.add_column("measure")
    for name in found:
        table.add_column(name, justify="right")
    for measure in found["before"].means:
        table.add_row(measure, *(f"{figures.means[measure]:.3f}" for figures in found.values()))
    out.print(table)
    note("learned from simulated users; docs/explanation/flywheel.md has the whole table, with intervals")


def print_heading(heading: str, *commands: str) -> None:
    """Prints a rule with what is shown, and what one would type for it."""
    out.print()
    out.print(Rule(make_plain(heading, "bold"), align="left"))
    for command in commands:
        out.print(make_plain(f"$ {command}", "cyan"), soft_wrap=True)
    out.print()


def say_what_next(keep: Path | None) -> None:
    data = str(keep / "data") if keep else "quarry-data"
    commands = [f"quarry serve --data {shlex.quote(data)}"]
    if keep is None:
        commands += ["quarry collection create NAME", "quarry index NAME corpus.jsonl --wait searchable"]
    name = COLLECTION if keep else "NAME"
    commands += [f"quarry search {name} 'your question'", f"quarry loop {name} --once"]
    print_heading("Your turn", *commands)
    if keep is None:
        note("what the demo made is gone; `quarry demo --keep DIR` leaves it, report included")
