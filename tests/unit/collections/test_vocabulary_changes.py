"""Two callers change the vocabulary of one collection at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.unit.retrieval.test_third_arm import served
from tests.unit.retrieval.test_third_arm import third_arm as third_arm

from quarry.collections import collections
from quarry.collections.collections import Collections
from quarry.errors import ConflictError, ConflictingFieldsError
from quarry.vocabulary import SynonymRule, Vocabulary, check_vocabulary

WAIT_S = 20.0
CARS = (SynonymRule(("car", "automobile")),)
Meanwhile = Callable[[str], None]


@pytest.fixture
async def faq(third_arm: None, tmp_path: Path) -> AsyncIterator[Collections]:
    async with served(tmp_path) as made:
        yield made.open_collections


@pytest.fixture
async def set_stop_words(faq: Collections, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Lets another caller set stop words while the next vocabulary is checked."""
    loop = asyncio.get_running_loop()
    words: list[str] = []

    def check_meanwhile(vocabulary: Vocabulary) -> None:
        check_vocabulary(vocabulary)
        if words:
            other = faq.set_vocabulary("faq", None, {"stop_words": (words.pop(),)})
            asyncio.run_coroutine_threadsafe(other, loop).result(WAIT_S)

    monkeypatch.setattr(collections, "check_vocabulary", check_meanwhile)
    return words.append


async def test_who_gives_no_etag_keeps_what_another_sets_meanwhile(
    faq: Collections, set_stop_words: Meanwhile
) -> None:
    set_stop_words("le")
    row = await faq.set_vocabulary("faq", None, {"synonyms": CARS})
    assert row.settings.vocabulary is not None
    assert row.settings.vocabulary.parts == (CARS, ("le",))


async def test_who_contradicts_what_another_sets_meanwhile_is_refused(
    faq: Collections, set_stop_words: Meanwhile
) -> None:
    set_stop_words("car")
    with pytest.raises(ConflictingFieldsError):
        await faq.set_vocabulary("faq", None, {"synonyms": CARS})


async def test_who_gives_an_etag_is_told_of_what_another_sets_meanwhile(
    faq: Collections, set_stop_words: Meanwhile
) -> None:
    revision = (await faq.read_current("faq")).revision
    set_stop_words("le")
    with pytest.raises(ConflictError):
        await faq.set_vocabulary("faq", revision, {"synonyms": CARS})
