"""Queries made of documents: what stands above a text asks for it, and is not in it."""

from quarry.documents.passages import SourceText
from quarry_trainer.data.pseudo_queries import LEAST_PASSAGE_WORDS, drop_title, make_pseudo_queries

LONG = "every word of it counts and there are enough of them to make a passage that says something useful"
assert len(LONG.split()) >= LEAST_PASSAGE_WORDS


def texts(*documents: tuple[str, SourceText]) -> dict[str, str]:
    return {query.text: query.passage for query in make_pseudo_queries(documents, 100, seed=0)}


def test_a_title_asks_for_the_text_below_it() -> None:
    found = texts(("d", SourceText("How to mend a bicycle", LONG)))
    assert found == {"How to mend a bicycle": LONG}


def test_a_heading_asks_for_what_follows_up_to_the_next() -> None:
    text = f"{LONG}.\nTo change a tyre\n{LONG} one.\nTo oil the chain\n{LONG} two."
    found = texts(("d", SourceText("", text)))
    assert found["To change a tyre"] == f"{LONG} one."
    assert found["To oil the chain"] == f"{LONG} two."


def test_a_first_sentence_asks_for_the_rest() -> None:
    found = texts(("d", SourceText("", f"Bicycles need some care. {LONG}.")))
    assert found == {"Bicycles need some care": f"{LONG}."}


def test_what_many_documents_are_called_asks_for_none() -> None:
    documents = [(f"d{n}", SourceText("See also these", f"{LONG} {n}")) for n in range(3)]
    assert texts(*documents) == {}
    assert len(make_pseudo_queries(documents[:2], 100, seed=0)) == 2


def test_too_little_text_makes_no_query() -> None:
    assert texts(("d", SourceText("How to mend a bicycle", "Ask somebody."))) == {}
    assert texts(("d", SourceText("Bicycles", LONG))) == {}
    assert texts(("d", SourceText("", ""))) == {}


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    documents = [(f"d{n}", SourceText(f"How to mend number {n}", f"{LONG} {n}")) for n in range(50)]
    first, again, other = (make_pseudo_queries(documents, 10, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == len({query.document for query in first}) == 10


def test_the_title_in_front_of_a_passage_is_taken_off() -> None:
    assert drop_title("A title\nand its text", "A title") == "and its text"
    assert drop_title("no title here", "") == "no title here"
