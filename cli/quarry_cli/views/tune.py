"""A ranking configuration in a terminal and as JSON: the verdict, what it is, and what it is worth."""

from collections.abc import Iterable, Mapping
from typing import Any

from quarry.client import Client
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import model_service_pb2 as pb
from quarry.v1 import search_service_pb2 as search_pb
from quarry_cli.connection import read_collection
from quarry_cli.console import make_plain, note, out, print_json, warn
from quarry_cli.views.training import (
    IMPROVED,
    list_cautions,
    make_figures_table,
    name_verdict,
    show_verdict,
    to_numbers,
)

NDCG = "nDCG@10"
Boosts = Mapping[str, float]
"""Of a schema's fields, those over 0, by name; the title's under ``TITLE``, whatever its name is."""
TITLE = "title"


def read_boosts(quarry: Client, collection: str) -> Boosts:
    fields = read_collection(quarry, collection).schema.fields
    searched = [f for f in fields if f.type == collections_pb.SCHEMA_FIELD_TYPE_TEXT and f.searchable]
    return {TITLE if field.is_title else field.name: field.boost for field in searched if field.boost}


def print_ranking(ranking: pb.Ranking, boosts: Boosts) -> None:
    """Writes the report as JSON, with the keys of docs/reference/tuning.md."""
    print_json(
        {
            "configuration": ranking.name,
            "collection": ranking.collection,
            "verdict": name_verdict(ranking),
            "promoted": _is_serving(ranking),
            "advice": list(ranking.advice),
            "cautions": list_cautions(ranking),
            **_describe_merging(ranking.arms, ranking.fusion, boosts),
            "queries": ranking.queries,
            "source": ranking.source,
            "simulated": ranking.simulated,
            "compared_with": ranking.compared_with,
            "reranker": ranking.reranker,
            NDCG: {
                name: {"value": m.value, "lower": m.lower, "upper": m.upper}
                for name, subject in (
                    ("before", "serving"),
                    ("after", "candidate"),
                    ("difference", "difference"),
                )
                if (m := _find_metric(ranking, subject)) is not None
            },
            "metrics": [to_numbers(metric) for metric in ranking.metrics],
            "folds": [
                {
                    "queries": fold.queries,
                    "before": fold.before,
                    "after": fold.after,
                    **_describe_merging(fold.arms, fold.fusion, boosts),
                }
                for fold in ranking.folds
            ],
        }
    )


def show_ranking(ranking: pb.Ranking, boosts: Boosts) -> None:
    show_verdict(ranking)
    if ranking.name:
        out.print(make_plain(_write_merging(_describe_merging(ranking.arms, ranking.fusion, boosts))))
    if ranking.metrics:
        out.print(make_figures_table(ranking.metrics))
        note("candidate: each part of the queries by what was fitted to the others, as people would see it")
    if ranking.simulated:
        warn("the feedback was made by a program, wholly or in part")
    if ranking.name:
        note(_describe_next_step(ranking))


def _describe_merging(
    arms: Iterable[search_pb.Arm], fusion: search_pb.Fusion, boosts: Boosts
) -> dict[str, Any]:
    """Describes how the arms are merged, in the words of the JSON; nothing of what is none."""
    own = list(arms)
    if not own:
        return {}
    scale = next((arm.boost_scale for arm in own if arm.HasField("boost_scale")), 1.0)
    traits = {
        t.name: {"slope": t.slope, "mean": t.mean, "deviation": t.deviation}
        for t in fusion.weighted_sum.by_query
    }
    return {
        "fusion": fusion.WhichOneof("kind"),
        "weights": {arm.name: arm.weight for arm in own},
        "title_weight": boosts[TITLE] * scale if TITLE in boosts else None,
        "boost_scale": scale,
        "depth": own[0].depth,
        "per_query": bool(traits),
        "traits": traits,
    }


def _write_merging(merged: Mapping[str, Any]) -> str:
    weights = ", ".join(f"{arm} {weight:.2f}" for arm, weight in merged["weights"].items())
    title = merged["title_weight"]
    parts = [
        f"{merged['fusion']}: {weights}{', by query' if merged['per_query'] else ''}",
        *([f"title {title:.2f}"] if title is not None else []),
        f"depth {merged['depth']}",
    ]
    return f"  {'; '.join(parts)}"


def _find_metric(ranking: pb.Ranking, subject: str) -> pb.ModelMetric | None:
    return next((m for m in ranking.metrics if m.measure == NDCG and m.subject == subject), None)


def _is_serving(ranking: pb.Ranking) -> bool:
    return ranking.state == pb.MODEL_STATE_SERVING


def _describe_next_step(ranking: pb.Ranking) -> str:
    if _is_serving(ranking):
        return f"{ranking.name} serves; `quarry tune {ranking.collection} --rollback` takes it back"
    if name_verdict(ranking) != IMPROVED:
        return f"{ranking.name} is not proven to be better, so what served stays"
    return f"it waits; `quarry model promote {ranking.name}` makes it serve"
