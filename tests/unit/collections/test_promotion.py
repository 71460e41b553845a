"""A promotion or a rollback rests on what serves when it is written down, not on what served before."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.collections.one_library import NothingLoaded, OneLibrary
from tests.unit.registry.small import Small, small

from quarry.collections.promotion import Promotions
from quarry.documents.store import RequestId
from quarry.errors import FailedPreconditionError
from quarry.registry.serving import Note

NOTE, UNREPEATED = Note("me", "why"), RequestId("", "RollBack", b"")


@dataclass
class Served:
    """The collection ``faq`` with three versions, of which the first two have served, the second last."""

    faq: Small
    open_collections: OneLibrary
    promotions: Promotions

    @property
    def reranker(self) -> str:
        return self.faq.read_collection().settings.reranker


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with small(tmp_path / "data") as faq:
        faq.create("faq")
        for text in ("a", "b", "c"):
            faq.register(text)
        for name in ("faq@1", "faq@2"):
            faq.serve(name)
        open_collections = OneLibrary(faq.database)
        opened: Any = open_collections
        yield Served(faq, open_collections, Promotions(opened, faq.registry, NothingLoaded()))


async def test_a_rollback_goes_to_what_served_before(served: Served) -> None:
    assert await served.promotions.roll_back("faq", NOTE, UNREPEATED) == ("faq@1", "faq@2")
    assert served.reranker == "faq@1"


async def test_a_rollback_that_a_promotion_overtakes_goes_back_from_that(served: Served) -> None:
    served.open_collections.meanwhile = lambda: served.faq.serve("faq@3")
    assert await served.promotions.roll_back("faq", NOTE, UNREPEATED) == ("faq@2", "faq@3")
    assert served.reranker == "faq@2"


async def test_a_rollback_that_another_one_overtakes_finds_nothing_to_go_back_to(served: Served) -> None:
    def undo_all() -> None:
        served.faq.serve("faq@1", rollback=True)
        served.faq.serve("", rollback=True)

    served.open_collections.meanwhile = undo_all
    with pytest.raises(FailedPreconditionError, match="no other re-ranker served faq"):
        await served.promotions.roll_back("faq", NOTE, UNREPEATED)
    assert served.reranker == ""
