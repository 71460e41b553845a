"""The options of `quarry search` that shape its list, and the part of a request that they make."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from quarry.client import Client
from quarry.v1 import search_service_pb2
from quarry_cli.connection import read_collection
from quarry_cli.inputs.shaping import describe_boost, parse_boost, parse_fresh, parse_popular
from quarry_cli.inputs.values import list_field_types

PinOption = Annotated[
    list[str] | None,
    typer.Option(metavar="ID", help="A document to put on top, up to 100; repeatable, in this order."),
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="A document to leave out, up to 1,000; repeatable.")
]
CollapseOption = Annotated[
    str, typer.Option(metavar="FIELD", help="One hit for each value of a keyword, an integer or the title.")
]
MembersOption = Annotated[
    int, typer.Option(min=0, max=10, help="With --collapse: others of the group to show with each hit.")
]
DiversityOption = Annotated[
    float | None,
    typer.Option(
        metavar="WEIGHT",
        help="Move down hits that repeat those above. WEIGHT is how much relevance counts against "
        "repetition: above 0, up to 1 (changes nothing), such as 0.5.",
    ),
]
BoostOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION[:WEIGHT]",
        help="Move up what meets a condition, as in --where, such as 'stock>0:0.5': its score times "
        "1 + WEIGHT, or plus WEIGHT where there is a + before it; -1 to 10, or 1 if there is none. A value "
        "with a colon needs quotes. Repeatable.",
    ),
]
FreshOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD:AGE[:WEIGHT]",
        help="Move up what is young by a timestamp: full strength now, half at AGE (s, m, h, d, w or y), "
        "such as updated:30d:0.5. WEIGHT as in --boost. Repeatable.",
    ),
]
PopularOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD:HALF[:WEIGHT]",
        help="Move up what has a great number: half strength at HALF, such as views:1000:0.5. WEIGHT as in "
        "--boost. Repeatable.",
    ),
]
MoreLikeOption = Annotated[
    str, typer.Option(metavar="ID", help='Search for what is like this document; the query is then "".')
]


@dataclass(frozen=True, slots=True)
class ShapingOptions:
    """The values that were typed."""

    pin: list[str]
    exclude: list[str]
    collapse: str
    members: int
    diversity: float | None
    boost: list[str]
    fresh: list[str]
    popular: list[str]
    more_like: str

    def add_to(self, request: search_service_pb2.SearchRequest, quarry: Client) -> None:
        """Adds them to ``request``. Raises typer.BadParameter for one that cannot be read."""
        request.pinned_ids.extend(self.pin)
        request.exclude_ids.extend(self.exclude)
        request.more_like = self.more_like
        if self.collapse:
            request.collapse.field, request.collapse.members = self.collapse, self.members
        elif self.members:
            raise typer.BadParameter("--members needs --collapse")
        if self.diversity is not None:
            request.diversity.relevance_weight = self.diversity
        types = list_field_types(read_collection(quarry, request.collection).schema) if self.boost else {}
        for option, text in self._list_boosts():
            try:
                match option:
                    case "--boost":
                        boost = parse_boost(text, types)
                    case "--fresh":
                        boost = parse_fresh(text)
                    case _:
                        boost = parse_popular(text)
            except ValueError as error:
                raise typer.BadParameter(f"{option}: {error}") from None
            request.boosts.append(boost)

    def list_unmet_boosts(
        self, request: search_service_pb2.SearchRequest, hits: Collection[search_service_pb2.Hit]
    ) -> Iterator[str]:
        """Says how each boost was read that met none of ``hits``, which come with explanations."""
        met = {effect.boost for hit in hits for effect in hit.explanation.boosts}
        for number, (option, text) in enumerate(self._list_boosts()):
            if hits and number not in met:
                yield f"{option} met none of these hits: {describe_boost(text, request.boosts[number])}"

    def _list_boosts(self) -> Iterator[tuple[str, str]]:
        """Lists what was typed of boosts, with the name of its option, in the order of the request."""
        for option, texts in (
            ("--boost", self.boost),
            ("--fresh", self.fresh),
            ("--popular", self.popular),
        ):
            yield from ((option, text) for text in texts)
