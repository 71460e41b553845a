"""`quarry demo`: a server, a collection, searches, figures, clicks and what is mined from them, in one go."""

import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.rule import Rule

from quarry.v1 import collection_service_pb2, mining_service_pb2, search_service_pb2
from quarry_cli.batches import Failures
from quarry_cli.checks import SERVER_EXTRA, server_installed
from quarry_cli.child import running_server
from quarry_cli.connection import Connection, connect
from quarry_cli.console import err, note, out, plain, progress
from quarry_cli.evaluate import all_runs, measured, show_figures
from quarry_cli.failures import CliError
from quarry_cli.index import Summary, write_files
from quarry_cli.judgments import read_qrels, read_queries
from quarry_cli.mining_calls import mined, write_examples, write_page
from quarry_cli.mining_view import show_set
from quarry_cli.sample import Sample, find_sample
from quarry_cli.search import show_search
from quarry_cli.sessions import Simulation, run_sessions
from quarry_cli.simulate import report, simulated_users
from quarry_cli.visibility import wait_searchable

COLLECTION = "faq"
BATCH_BYTES = 2**20
CALL_TIMEOUT_S = 240.0
SESSIONS = 1_000
SHOWN_HITS = 3
SEARCHES = (
    ("In words that the answer does not use:", "get rid of my fb profile for good", ()),
    ("And why each hit stands where it does:", "who has looked at my profile", ("--explain",)),
    ("No character has a special meaning:", 'gmail:"undo* send?? AND (NOT ~[title:^9', ()),
)
"""What each search shows, its query, and the options that one would type."""


def demo(
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the server's data in this folder, which must be empty."),
    ] = None,
) -> None:
    """See Quarry at work: starts a server of its own, indexes a sample, searches and measures it, and learns.

    Its users are simulated: they click on what they find, and hard negatives are mined from that.
    """
    if not server_installed():
        raise CliError("the server's packages are not installed", SERVER_EXTRA)
    sample = find_sample()
    with work_folder(keep) as folder:
        note("starting a server in a folder of its own")
        with running_server(folder) as address, connect(address, CALL_TIMEOUT_S) as quarry:
            note(f"it listens on {address}")
            fill(quarry, sample)
            search_it(quarry)
            measure(quarry, sample)
            click(quarry, sample)
            mine(quarry, folder)
    say_what_next(keep)


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """A folder that goes away at the end, unless it is to be kept."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="quarry-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise CliError(f"{keep} is not an empty folder")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep


def fill(quarry: Connection, sample: Sample) -> None:
    """Makes the collection and waits until all of the sample is searchable."""
    heading(
        "Index",
        f"quarry collection create {COLLECTION}",
        f"quarry index {COLLECTION} corpus.jsonl --wait searchable",
    )
    wanted = collection_service_pb2.Collection(name=COLLECTION, description="Help for web applications")
    request = collection_service_pb2.CreateCollectionRequest(collection=wanted)
    note("loading the encoder; the first time it is converted, which takes a minute or so")
    with err.status("loading the encoder"):
        quarry.collections.CreateCollection(request, timeout=quarry.timeout_s)
    summary, failures, start = Summary(COLLECTION), Failures(), time.monotonic()
    write_files(quarry, [sample.corpus], BATCH_BYTES, summary, failures)
    if failures.count:
        raise CliError(f"{failures.count} documents were not written, the first: {failures.first[0].reason}")
    wait_searchable(quarry, COLLECTION, summary.sequence, summary.documents)
    out.print(f"{summary.documents:,} documents searchable in {time.monotonic() - start:.1f} s")


def search_it(quarry: Connection) -> None:
    for what, query, options in SEARCHES:
        heading(
            what, " ".join(("quarry search", COLLECTION, shlex.quote(query), "-k", str(SHOWN_HITS), *options))
        )
        request = search_service_pb2.SearchRequest(
            collection=COLLECTION, query=query, page_size=SHOWN_HITS, explain="--explain" in options
        )
        show_search(quarry, request)


def measure(quarry: Connection, sample: Sample) -> None:
    heading("How good is it?", f"quarry evaluate {COLLECTION} --queries queries.jsonl --qrels qrels/test.tsv")
    qrels = read_qrels(sample.qrels)
    show_figures(measured(all_runs(quarry, COLLECTION, read_queries(sample.queries, set(qrels))), qrels))


def click(quarry: Connection, sample: Sample) -> None:
    heading(
        "Who chose what? (simulated users, not people)",
        f"quarry simulate {COLLECTION} --queries queries.jsonl --qrels qrels/train.tsv --sessions {SESSIONS}",
    )
    judged = read_qrels(sample.needs)
    texts = read_queries(sample.queries, set(judged))
    simulation = Simulation(COLLECTION, list(texts.items()), judged, simulated_users(), seed=0)
    with progress() as bar:
        visits = run_sessions(quarry, simulation, SESSIONS, bar)
    report(visits, simulation, json=False)


def mine(quarry: Connection, folder: Path) -> None:
    out_file = folder / "negatives.parquet"
    heading(
        "What was wrong, and looked right? Negatives to train a re-ranker on",
        f"quarry mine {COLLECTION} --from-feedback --out negatives.parquet --report negatives.html",
    )
    feedback = mining_service_pb2.FeedbackPositives()
    made = mined(
        quarry, mining_service_pb2.MineHardNegativesRequest(collection=COLLECTION, feedback=feedback)
    )
    write_examples(quarry, made.name, out_file)
    write_page(quarry, made.name, out_file.with_suffix(".html"))
    show_set(made, out_file)


def heading(what: str, *commands: str) -> None:
    """A rule with what is shown, and what one would type for it."""
    out.print()
    out.print(Rule(plain(what, "bold"), align="left"))
    for command in commands:
        out.print(plain(f"$ {command}", "cyan"), soft_wrap=True)
    out.print()


def say_what_next(keep: Path | None) -> None:
    data = str(keep / "data") if keep else "quarry-data"
    commands = [f"quarry serve --data {shlex.quote(data)}"]
    if keep is None:
        commands += ["quarry collection create NAME", "quarry index NAME corpus.jsonl --wait searchable"]
    heading("Your turn", *commands, f"quarry search {COLLECTION if keep else 'NAME'} 'your question'")
    if keep is None:
        note("what the demo made is gone; `quarry demo --keep DIR` leaves it, report included")
