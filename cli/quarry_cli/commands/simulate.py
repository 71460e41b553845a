"""`quarry simulate`: users made by program search a collection and click."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from quarry_cli.calls.sessions import Simulation, Visit, run_sessions
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.console import make_progress, note, out, print_json
from quarry_cli.failures import CliError
from quarry_cli.inputs.judgments import read_judged

if TYPE_CHECKING:
    from quarry.clicks.users import UserBehaviour

MINER_EXTRA = "pip install 'quarry-search[miner]'"
CAUTION = "simulated users, not people: what is learned from them shows that the loop works, not how well"


class Users(StrEnum):
    PBM = "pbm"
    CASCADE = "cascade"
    DBN = "dbn"


def simulate(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    queries: Annotated[
        Path,
        typer.Option(
            exists=True, dir_okay=False, help="JSON lines, TREC topics, or a table of ids and texts."
        ),
    ],
    qrels: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="What the users find relevant, maybe gzipped.")
    ],
    sessions: Annotated[int, typer.Option(min=1, help="Searches to make.")],
    users: Annotated[Users, typer.Option(help="How they look at a page.")] = Users.PBM,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same users again.")] = 0,
    noise: Annotated[
        float, typer.Option(min=0, max=0.9, help="Probability of a click on what is not relevant.")
    ] = 0.1,
    trust: Annotated[
        float, typer.Option(min=0, max=0.9, help="What is added to --noise at the first rank.")
    ] = 0.1,
    eta: Annotated[float, typer.Option(min=0, max=5, help="pbm: how fast examination falls by rank.")] = 1.0,
    intents: Annotated[int, typer.Option(min=1, max=10, help="Meanings that each query has.")] = 1,
    skew: Annotated[
        float, typer.Option(min=0, max=3, help="How much oftener some queries come; 0: all alike.")
    ] = 1.0,
    swap: Annotated[
        float, typer.Option(min=0, max=0.5, help="Probability that exploration swaps neighbours.")
    ] = 0.0,
    page_size: Annotated[int, typer.Option("-k", min=1, max=100, help="Hits on a page.")] = 10,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Let simulated users search and click, where there are no people yet.

    They see what the server really answers, and find relevant what the judgments say. Everything that they
    leave in the log is marked as simulated, and so is whatever is learned from it.
    """
    texts, judged, _ = read_judged(queries, qrels)
    behaviour = make_simulated_users(users, noise, trust, eta, intents)
    simulation = Simulation(
        name, list(texts.items()), judged, behaviour, page_size, intents, skew, swap, seed
    )
    with connect(server, timeout, default_timeout_s=60) as quarry, make_progress() as bar:
        visits = run_sessions(quarry, simulation, sessions, bar)
    report(visits, simulation, json)


def make_simulated_users(
    users: Users = Users.PBM, noise: float = 0.1, trust: float = 0.1, eta: float = 1.0, intents: int = 1
) -> "UserBehaviour":
    """Raises CliError if the miner, which they are part of, is not installed."""
    try:
        from quarry.clicks.users import UserBehaviour
    except ImportError:
        raise CliError("simulated users are part of the miner, which is not installed", MINER_EXTRA) from None
    shares = tuple(1 / intents for _ in range(intents))
    return UserBehaviour(users.value, eta=eta, noise=noise, trust=trust, intent_shares=shares)


def report(visits: Sequence[Visit], simulation: Simulation, json: bool) -> None:
    """Clicks by rank, and how many of them met what is relevant."""
    ranks = [
        {
            "rank": place + 1,
            "shown": sum(len(v.clicked) > place for v in visits),
            "clicked": sum(v.clicked[place] for v in visits if len(v.clicked) > place),
            "relevant": sum(v.relevant[place] for v in visits if len(v.relevant) > place),
        }
        for place in range(max((len(v.clicked) for v in visits), default=0))
    ]
    unlogged = sum(not visit.logged for visit in visits)
    figures = {
        "simulated": True,
        "users": simulation.behaviour.model,
        "seed": simulation.seed,
        "sessions": len(visits),
        "queries": len({visit.query_id for visit in visits}),
        "clicks": sum(rank["clicked"] for rank in ranks),
        "unlogged": unlogged,
        "ranks": ranks,
    }
    if json:
        print_json(figures)
        return
    what = f"sessions of simulated {simulation.behaviour.model} users"
    out.print(f"{len(visits):,} {what}, {figures['clicks']:,} clicks")
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("rank", "shown", "clicked", "share clicked", "share relevant"):
        table.add_column(column, justify="right")
    for rank in ranks:
        shares = (f"{rank[kind] / rank['shown']:.3f}" for kind in ("clicked", "relevant"))
        table.add_row(str(rank["rank"]), f"{rank['shown']:,}", f"{rank['clicked']:,}", *shares)
    out.print(table)
    if unlogged:
        note(f"{unlogged:,} answers were empty or not logged")
    note(CAUTION)
