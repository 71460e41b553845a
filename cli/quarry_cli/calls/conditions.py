"""The options `--where` and `--facet`, read by the types of a collection's fields."""

from typing import Annotated

import typer

from quarry.client import Client
from quarry.v1 import search_service_pb2, types_pb2
from quarry_cli.connection import read_collection
from quarry_cli.inputs.results import parse_facet
from quarry_cli.inputs.values import list_field_types
from quarry_cli.inputs.where import parse_where

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="FIELD=VALUE (or !=, <, <=, >, >=, ^= prefix), FIELD in (A, B), exists(FIELD), joined by and, "
        "or, not and parentheses. Repeatable: all must hold.",
    ),
]


def parse_conditions(quarry: Client, name: str, texts: list[str]) -> list[types_pb2.Filter]:
    """Parses what ``--where`` says, by the types of the collection's schema."""
    if not texts:
        return []
    types = list_field_types(read_collection(quarry, name).schema)
    try:
        return [parse_where(text, types) for text in texts]
    except ValueError as error:
        raise typer.BadParameter(f"--where: {error}") from None


def parse_facets(quarry: Client, name: str, texts: list[str]) -> list[search_service_pb2.FacetRequest]:
    """Parses what ``--facet`` says, by the types of the collection's schema."""
    if not texts:
        return []
    types = list_field_types(read_collection(quarry, name).schema)
    try:
        return [parse_facet(text, types) for text in texts]
    except ValueError as error:
        raise typer.BadParameter(f"--facet: {error}") from None
