"""An answered search as a person reads it."""

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.duration_pb2 import Duration
from rich.console import Group
from rich.table import Table
from rich.text import Text

from quarry.v1 import search_service_pb2
from quarry_cli.commands.documents import format_value
from quarry_cli.console import count_things, make_plain, out, replace_controls
from quarry_cli.views.facets import write_facet
from quarry_cli.views.snippets import write_best

INDENT = 4
MAX_WIDTH = 110
STAGES_AROUND_ARMS = ("encode",), ("fuse", "hydrate", "rerank")
"""Stages of a search before and after its arms."""
LIMITS: Mapping[int, str] = {
    search_service_pb2.REACH_LIMIT_LIST_SIZE: "a list ranks no more; a filter or more words narrow it down",
    search_service_pb2.REACH_LIMIT_ARM_DEPTH: "the depth of the arms",
    search_service_pb2.REACH_LIMIT_RERANK_DEPTH: "the re-ranker read no more",
    search_service_pb2.REACH_LIMIT_DEGRADED: "what matches was not counted",
}
"""What keeps paging from reaching all that matches."""


def show_answer(response: search_service_pb2.SearchResponse, title: str) -> None:
    """Prints the hits, then what there is to say about the search.

    Args:
        title: name of the title field.
    """
    if not response.hits:
        out.print("no hits")
    for hit in response.hits:
        show_hit(hit, title)
    for facet in response.facets:
        out.print(write_facet(facet))
    show_footer(response)


def show_hit(hit: search_service_pb2.Hit, title_field: str) -> None:
    """Shows rank, title, score and id, the snippet that fits best, and how the hit came there."""
    width = min(out.width, MAX_WIDTH)
    fields = hit.document.fields
    title = format_value(fields[title_field]) if title_field in fields else ""
    head = make_plain(title or hit.document.id, "bold").append(f"  {hit.score:.4f}", "not bold green")
    if hit.HasField("relevance"):
        head.append(f"  relevant {hit.relevance:.0%}", "not bold cyan")
    if title:
        head.append(f"  {replace_controls(hit.document.id)}", "not bold dim")
    if hit.pinned:
        head.append("  pinned", "not bold magenta")
    if hit.collapsed:
        head.append(f"  and {hit.collapsed:,} alike", "not bold dim")
    parts = [head, write_best(hit.snippets, title_field)]
    parts += [_write_member(member, title_field) for member in hit.members]
    if hit.HasField("explanation"):
        parts.append(write_explanation(hit.explanation))
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=INDENT - 1, justify="right", style="cyan")
    grid.add_column(width=width - INDENT - 1)
    grid.add_row(str(hit.rank), Group(*(part for part in parts if part)))
    out.print(grid)
    out.print()


def _write_member(member: search_service_pb2.GroupMember, title_field: str) -> Text:
    """Writes another document of the group in one line."""
    fields = member.document.fields
    title = format_value(fields[title_field]) if title_field in fields else ""
    return Text(f"also {replace_controls(title or member.document.id)}  {member.score:.4f}", "dim")


def write_explanation(explained: search_service_pb2.Explanation) -> Text:
    """Writes how a hit came to its rank: a line for each arm, one for what came after, and those of a
    cascade."""
    lines = [Text(_name_arm(arm), "dim") for arm in explained.arms]
    end = f"fused  rank {explained.fused_rank or '-':<5} score {explained.fused_score:<10.4f}"
    if explained.HasField("rerank_score"):
        end += f" re-ranked {explained.rerank_score:.4f}{' (text cut)' if explained.truncated else ''}"
    readers = explained.rerankers if len(explained.rerankers) > 1 else ()
    after = [
        Text(f"read by {replace_controls(reader.model)}: {reader.score:.4f}", "dim") for reader in readers
    ]
    return Text("\n").join([*lines, Text(end.rstrip(), "dim"), *after, *_write_moves(explained)])


def _write_moves(explained: search_service_pb2.Explanation) -> Iterator[Text]:
    """Writes what moved a hit beside the query."""
    for one in explained.boosts:
        yield Text(f"boost {one.boost + 1}: strength {one.strength:.2f}, effect {one.effect:.4f}", "dim")
    if explained.HasField("similarity"):
        yield Text(f"repeats {explained.similarity:.2f} of the hits above", "dim")


def _name_arm(arm: search_service_pb2.ArmExplanation) -> str:
    score = f"{arm.score:.4f}" if arm.HasField("score") else "-"
    name = replace_controls(arm.arm)
    return f"{name:<6} rank {arm.rank or '-':<5} score {score:<10} adds {arm.contribution:.4f}"


def show_footer(response: search_service_pb2.SearchResponse) -> None:
    out.print(Text(" · ".join(_write_footer(response)), "dim"))
    for one in response.not_pinned:
        reason = search_service_pb2.NotPinnedReason.Name(one.reason).removeprefix("NOT_PINNED_REASON_")
        words = reason.replace("_", " ").lower()
        out.print(Text(f"not pinned: {replace_controls(one.document_id)}: {words}", "yellow"))
    show_degraded(response.degraded)


def show_degraded(notes: Iterable[search_service_pb2.Degradation]) -> None:
    """Says what an answer is without."""
    for degraded in notes:
        stage = search_service_pb2.Stage.Name(degraded.stage).removeprefix("STAGE_").lower()
        stage = replace_controls(degraded.arm) or stage
        reason = search_service_pb2.DegradationReason.Name(degraded.reason)
        reason = reason.removeprefix("DEGRADATION_REASON_").replace("_", " ").lower()
        detail = f" ({replace_controls(degraded.detail)})" if degraded.detail else ""
        model = f" by {replace_controls(degraded.model)}" if degraded.model else ""
        out.print(Text(f"incomplete: {stage}{model}: {reason}{detail}", "yellow"))


def _write_footer(response: search_service_pb2.SearchResponse) -> Iterator[str]:
    matching = response.total
    if matching.relation == search_service_pb2.TOTAL_RELATION_LOWER_BOUND:
        yield f"at least {matching.count:,} documents match"
    else:
        yield f"{count_things(matching.count, 'document')} match{'es' if matching.count == 1 else ''}"
    yield from _write_reach(response)
    taken = {
        replace_controls(name): format_milliseconds(duration) for name, duration in response.timings.items()
    }
    total = taken.pop("total", format_milliseconds(Duration()))
    before, after = STAGES_AROUND_ARMS
    arms = sorted(taken.keys() - {*before, *after})
    stages = [f"{name} {taken[name]}" for name in (*before, *arms, *after) if name in taken]
    yield total + (f" ({', '.join(stages)})" if stages else "")
    models = [replace_controls(model) for model in response.rerankers or [response.reranker]]
    if response.ranking:
        yield f"merged by {replace_controls(response.ranking)}"
    if response.weights:
        yield ", ".join(f"{weight.arm} {weight.weight:.2f}" for weight in response.weights)
    yield f"re-ranked by {', then '.join(models)}" if response.reranker else "not re-ranked"


def _write_reach(response: search_service_pb2.SearchResponse) -> Iterator[str]:
    """Writes how many hits paging reaches, where that is not what matches, and why."""
    by_meaning, reach = response.found_by_meaning, response.reach
    if by_meaning.count:
        yield f"{_write_count(by_meaning)} found by meaning"
    limit = LIMITS.get(reach.limit, "")
    if limit or by_meaning.count:
        yield f"{_write_count(reach)} can be paged to" + (f": {limit}" if limit else "")


def _write_count(total: search_service_pb2.Total | search_service_pb2.Reach) -> str:
    least = total.relation == search_service_pb2.TOTAL_RELATION_LOWER_BOUND
    return f"at least {total.count:,}" if least else f"{total.count:,}"


def format_milliseconds(duration: Duration) -> str:
    return f"{duration.ToMicroseconds() / 1_000:.1f} ms"
