"""The promotion policy of a collection, as it is typed and shown."""

from enum import StrEnum
from typing import Annotated

import typer

from quarry.v1 import collection_service_pb2 as pb

_PREFIX = "PROMOTION_POLICY_"


class Promotion(StrEnum):
    SERVER = "server"
    MANUAL = "manual"
    WHEN_IMPROVED = "when_improved"
    DESPITE_CAUTIONS = "despite_cautions"


PromotionOption = Annotated[
    Promotion | None,
    typer.Option(
        help="Who makes a re-ranker serve that is IMPROVED. when_improved: the server, if it has no caution; "
        "despite_cautions: the server; manual: you; server: as the server is set.",
        show_default=False,
    ),
]


def to_promotion_value(promotion: Promotion | None) -> pb.PromotionPolicy.ValueType:
    """Converts the policy; unspecified, which is the server's, for none."""
    if promotion in (None, Promotion.SERVER):
        return pb.PROMOTION_POLICY_UNSPECIFIED
    return pb.PromotionPolicy.Value(f"{_PREFIX}{promotion.name}")


def format_promotion(value: pb.PromotionPolicy.ValueType) -> str:
    return pb.PromotionPolicy.Name(value).removeprefix(_PREFIX).lower()
