"""Cascades of re-rankers, as they are typed and as they are shown."""

from collections.abc import Iterable
from typing import Annotated

import typer

from quarry.v1 import types_pb2


def parse_stages_option(texts: list[str] | None) -> list[str] | None:
    """Refuses what is no cascade, as a mistake of usage."""
    parse_stages(texts or ())
    return texts


CascadeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL:DEPTH",
        callback=parse_stages_option,
        help="A model and how many candidates it reads; repeat it, widest first. "
        ':DEPTH is the collection\'s re-ranker, as in "--cascade small:200 --cascade :20".',
    ),
]


def parse_stages(texts: Iterable[str]) -> list[types_pb2.RerankStage]:
    """Parses the stages that are typed; one empty text alone is a cascade without any.

    Raises typer.BadParameter for what is not MODEL:DEPTH.
    """
    given = list(texts)
    return [] if given == [""] else [_parse_stage(text) for text in given]


def _parse_stage(text: str) -> types_pb2.RerankStage:
    model, colon, depth = text.rpartition(":")
    if not (colon and depth.isascii() and depth.isdigit() and len(depth) < 10):
        raise typer.BadParameter(f"{text!r} is not MODEL:DEPTH, such as faq@1:200 or :20")
    return types_pb2.RerankStage(model=model, depth=int(depth))


def format_stages(stages: Iterable[types_pb2.RerankStage]) -> str:
    """Writes the stages in the order in which they read, as they are typed."""
    return ", ".join(f"{stage.model}:{stage.depth}" for stage in stages)
