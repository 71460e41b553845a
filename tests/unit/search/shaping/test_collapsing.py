"""Groups of which the first document stays."""

import pytest

from quarry.errors import WrongTypeError
from quarry.ranking.ranking import RankedDocument
from quarry.ranking.shaping import Collapse
from quarry.search.shaping.collapsing import collapse_groups, read_group
from quarry.types import Docno, Document, FieldValue


def ranked(*numbers: int) -> list[RankedDocument]:
    return [RankedDocument(Docno(n), f"d{n}", 1, 1.0 / (place + 1)) for place, n in enumerate(numbers)]


def document(value: FieldValue | None) -> Document:
    return Document(Docno(1), "d1", {} if value is None else {"brand": value}, 1, 0)


def test_the_first_of_each_group_stays_and_counts_the_others() -> None:
    groups = {Docno(1): "a", Docno(2): "b", Docno(3): "a", Docno(4): None, Docno(5): None, Docno(6): "a"}
    found = collapse_groups(ranked(1, 2, 3, 4, 5, 6), groups, members=1)
    assert [head.id for head in found] == ["d1", "d2", "d4", "d5"]
    assert [head.shape.others for head in found] == [2, 0, 0, 0]
    assert [[member.id for member in head.shape.members] for head in found] == [["d3"], [], [], []]


def test_without_members_a_hit_counts_them_all_the_same() -> None:
    (head,) = collapse_groups(ranked(1, 2), {Docno(1): "a", Docno(2): "a"}, members=0)
    assert (head.shape.others, head.shape.members) == (1, ())


def test_what_is_gone_by_now_stands_for_itself() -> None:
    assert len(collapse_groups(ranked(1, 2), {Docno(1): "a"}, members=0)) == 2


@pytest.mark.parametrize(("value", "group"), [("x", "x"), (["x"], "x"), ([], None), (None, None), (0, 0)])
def test_a_group_is_the_value_of_a_field(value: FieldValue | None, group: object) -> None:
    assert read_group(Collapse("brand"), document(value)) == group


def test_a_document_with_several_values_is_refused() -> None:
    with pytest.raises(WrongTypeError, match="d1' has 2 values of brand") as caught:
        read_group(Collapse("brand"), document(["x", "y"]))
    assert caught.value.field == "collapse.field"
