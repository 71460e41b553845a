"""`quarry search`: a query and its ranking. `quarry suggest`: what completes a query."""

from enum import StrEnum
from typing import Annotated

import typer

from quarry.client import Client
from quarry.v1 import search_service_pb2, types_pb2
from quarry_cli.calls.conditions import WhereOption, parse_conditions, parse_facets
from quarry_cli.calls.shaping import (
    BoostOption,
    CollapseOption,
    DiversityOption,
    ExcludeOption,
    FreshOption,
    MembersOption,
    MoreLikeOption,
    PinOption,
    PopularOption,
    ShapingOptions,
)
from quarry_cli.commands.ranking import show_answer, show_degraded
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import as_json, count_things, make_plain, note, out, print_json
from quarry_cli.inputs.cascade import CascadeOption, parse_stages
from quarry_cli.inputs.conditions import parse_filter, require_all
from quarry_cli.inputs.results import FacetOption, OrderOption, parse_orders
from quarry_cli.views.snippets import SHOWN

SURFACE = "command-line"
"""Where the answer is shown, as the feedback log calls it."""


class FusionName(StrEnum):
    RRF = "rrf"
    WEIGHTED = "weighted"


FUSIONS = {
    FusionName.RRF: search_service_pb2.Fusion(rrf=search_service_pb2.ReciprocalRankFusion()),
    FusionName.WEIGHTED: search_service_pb2.Fusion(weighted_sum=search_service_pb2.WeightedSum()),
}


SYNTAXES = {
    False: search_service_pb2.QUERY_SYNTAX_UNSPECIFIED,
    True: search_service_pb2.QUERY_SYNTAX_ADVANCED,
}


def parse_filter_option(text: str | None) -> str | None:
    """Refuses a filter that is not one, as a mistake of usage."""
    if text is not None:
        try:
            parse_filter(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return text


FilterOption = Annotated[
    str | None,
    typer.Option(metavar="JSON", callback=parse_filter_option, help="A Filter message as JSON."),
]


def parse_condition(
    quarry: Client, name: str, filter: str | None, where: list[str] | None
) -> types_pb2.Filter | None:
    """Parses what ``--filter`` and ``--where`` say together; None if they say nothing."""
    wanted = [parse_filter(filter)] if filter is not None else []
    return require_all([*wanted, *parse_conditions(quarry, name, where or [])])


def search(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    query: Annotated[str, typer.Argument(help='Any text; "" browses.', show_default=False)],
    advanced: Annotated[
        bool,
        typer.Option(
            "--advanced",
            help='Read the query language: "phrase", prefix*, fuzzy~, +required, -excluded, field:word.',
        ),
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, max=1_000, help="Hits to show.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say how each hit came to its rank.")] = False,
    typos: Annotated[
        bool, typer.Option("--typos", help="A word that no document has finds words spelled nearly so.")
    ] = False,
    filter: FilterOption = None,
    where: WhereOption = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(metavar="ARM", help="Ask only this arm, such as bm25 or dense; repeatable."),
    ] = None,
    fusion: Annotated[
        FusionName | None, typer.Option(help="How the arms are merged. Default: weighted.")
    ] = None,
    rerank_depth: Annotated[
        int, typer.Option(min=0, max=1_000, help="Hits to re-rank; 0: 50, or as the cascade says.")
    ] = 0,
    rerank: Annotated[bool, typer.Option("--rerank/--no-rerank", help="Re-rank if there is a model.")] = True,
    reranker: Annotated[str, typer.Option(metavar="MODEL", help="Instead of the collection's.")] = "",
    cascade: CascadeOption = None,
    min_relevance: Annotated[
        float | None,
        typer.Option(metavar="P", help="Only hits that are relevant with this probability, over 0 to 1."),
    ] = None,
    pin: PinOption = None,
    exclude: ExcludeOption = None,
    collapse: CollapseOption = "",
    members: MembersOption = 0,
    diversity: DiversityOption = None,
    boost: BoostOption = None,
    fresh: FreshOption = None,
    popular: PopularOption = None,
    more_like: MoreLikeOption = "",
    facet: FacetOption = None,
    order_by: OrderOption = None,
    page_token: Annotated[
        str, typer.Option(metavar="TOKEN", help="The next page of a search, whose end says the token.")
    ] = "",
    unlogged: Annotated[
        bool, typer.Option("--unlogged", help="Keep nothing of this search in the feedback log.")
    ] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Search a collection. The query is plain words: no character of it has a special meaning, unless
    --advanced says so.

    The search is logged as a trial of the command line, and nothing is learned from it.
    """
    request = search_service_pb2.SearchRequest(
        collection=name,
        query=query,
        syntax=SYNTAXES[advanced],
        typo_tolerance=typos,
        page_size=k,
        page_token=page_token,
        arms=[search_service_pb2.Arm(name=a) for a in arm or ()],
        fusion=FUSIONS[fusion] if fusion else None,
        rerank=search_service_pb2.Rerank(
            disabled=not rerank, model=reranker, depth=rerank_depth, cascade=parse_stages(cascade or ())
        ),
        explain=explain,
        min_relevance=min_relevance,
        unlogged=unlogged,
        context=search_service_pb2.SearchContext(surface=SURFACE, trial=True),
        snippets=SHOWN,
        order_by=parse_orders(order_by),
    )
    shaping = ShapingOptions(
        pin or [],
        exclude or [],
        collapse,
        members,
        diversity,
        boost or [],
        fresh or [],
        popular or [],
        more_like,
    )
    with connect(server, timeout) as quarry:
        condition = parse_condition(quarry, name, filter, where)
        if condition is not None:
            request.filter.CopyFrom(condition)
        shaping.add_to(request, quarry)
        request.facets.extend(parse_facets(quarry, name, facet or []))
        if json:
            print_json(as_json(quarry.search.Search(request)))
        else:
            request.explain = explain or bool(request.boosts)  # explanations say which boosts met a hit
            show_search(quarry, request, shaping, explain)


def show_search(
    quarry: Client,
    request: search_service_pb2.SearchRequest,
    shaping: ShapingOptions | None = None,
    explain: bool = True,
) -> None:
    """Runs a search and prints its ranking.

    Args:
        shaping: options that the request has boosts of.
        explain: print the explanations that the answer has.
    """
    schema = read_collection(quarry, request.collection).schema
    answer = quarry.search.Search(request)
    unmet = list(shaping.list_unmet_boosts(request, answer.hits)) if shaping else []
    if request.explain and not explain:
        drop_explanations(answer)
    show_answer(answer, next((field.name for field in schema.fields if field.is_title), "title"))
    for said in unmet:
        note(said)
    if answer.next_page_token:
        note(f"next page: the same command with --page-token {answer.next_page_token}")


def drop_explanations(answer: search_service_pb2.SearchResponse) -> None:
    """Leaves out what an answer has only because the request asks for explanations."""
    for hit in answer.hits:
        hit.ClearField("explanation")
    answer.ClearField("weights")
    answer.ClearField("highest_fused")


def suggest(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    text: Annotated[str, typer.Argument(help="What is typed so far.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, max=20, help="Most suggestions.")] = 10,
    filter: FilterOption = None,
    where: WhereOption = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Complete a query that is being typed, by titles and frequent phrases. What is typed stands in bold."""
    with connect(server, timeout) as quarry:
        request = search_service_pb2.SuggestRequest(
            collection=name, text=text, limit=limit, filter=parse_condition(quarry, name, filter, where)
        )
        answer = quarry.search.Suggest(request)
        if json:
            print_json(as_json(answer))
        else:
            show_suggestions(answer)


def show_suggestions(answer: search_service_pb2.SuggestResponse) -> None:
    """Prints a suggestion a line, with the document or how many documents have it."""
    if not answer.suggestions:
        out.print("no suggestions")
    for suggestion in answer.suggestions:
        line = make_plain(suggestion.text)
        for part in suggestion.highlights:
            line.stylize("bold", part.start, part.start + part.length)
        total = suggestion.documents
        least = "" if total.relation == search_service_pb2.TOTAL_RELATION_EXACT else "at least "
        line.append(f"  {least}{count_things(total.count, 'document')}", "dim")
        if suggestion.document_id:
            line.append(make_plain(f"  {suggestion.document_id}", "dim"))
        out.print(line, soft_wrap=True)
    show_degraded(answer.degraded)
