"""The tool that holds names to verbs and docstrings to sentences, by good and bad cases."""

import importlib.util
import sys
from pathlib import Path

import pytest

# The checkout's root stays off the path of imports, so the tool is loaded from its file.
TOOL = Path(__file__).parents[3] / "tools/names.py"
spec = importlib.util.spec_from_file_location("tools_names", TOOL)
assert spec and spec.loader
names = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = names
spec.loader.exec_module(names)

GOOD_NAMES = ("read_rows", "_mine", "is_empty", "fits", "to_message", "from_row", "as_dict", "roll_back")
BAD_NAMES = ("_mined", "trained", "told", "made", "texts_of", "similarities", "encoder_space", "by_score")

SENTENCES = (
    "Reads the rows.",
    "Read the rows.",
    "Ranks the documents of a query.",
    "Does the same as ``read_rows``.",
    "Tells whether the disk is full.",
    "The log has grown.",
    "Nobody else is in this block meanwhile.",
)
FRAGMENTS = (
    "Of each text, shape ``(n,)``.",
    "What an encoder reads of a document.",
    "Whether two tokens belong to one text.",
    "As ``read_rows``, for asyncio.",
    "By name, oldest first.",
    "The documents that pass the filter.",
    "Ranks of which something is known.",
    "Score of each pair.",
    "BM25 of these documents; one without any of its words is left out.",
)


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_verb_a_predicate_or_a_conversion_names_a_function(name: str) -> None:
    assert names.is_verb(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_participle_or_a_noun_does_not(name: str) -> None:
    assert not names.is_verb(name)


@pytest.mark.parametrize("text", SENTENCES)
def test_a_verb_or_a_whole_sentence_opens_a_docstring(text: str) -> None:
    assert not names.is_fragment(text, of_function=True)


@pytest.mark.parametrize("text", FRAGMENTS)
def test_a_fragment_does_not(text: str) -> None:
    assert names.is_fragment(text, of_function=True)


def test_a_class_may_open_with_a_noun_and_not_with_a_clause() -> None:
    assert not names.is_fragment("A document of a collection.", of_function=False)
    assert not names.is_fragment("Weights by rank.", of_function=False)
    assert names.is_fragment("How an encoder is trained.", of_function=False)
    assert names.is_fragment("Attributes:\n    name: of a collection.", of_function=False)


def test_each_problem_is_told_with_its_place() -> None:
    source = '"""What it does."""\n\n\ndef made(x):\n    """Of one."""\n'
    assert names.check(source, "a.py") == [
        "a.py:1: a fragment, not a sentence: What it does.",
        "a.py:4: made begins with no verb of tools/verbs.txt",
        "a.py:4: a fragment, not a sentence: Of one.",
    ]


def test_what_others_name_is_exempt() -> None:
    source = """
import grpc
from quarry.base import Base

class Call(grpc.Call):
    def details(self): ...
    def _made(self): ...
    @property
    def rows(self): ...
    def __len__(self): ...
    def Search(self): ...

class Own(Base):
    def rows(self): ...

@app.command("list")
def all_of_them(): ...

@pytest.fixture
def folder(): ...

def test_rows_are_whole(): ...
"""
    assert [problem.split(": ")[1].split()[0] for problem in names.check(source, "a.py")] == ["_made", "rows"]


def test_the_project_keeps_to_it_and_few_names_are_allowed() -> None:
    assert names.main(list(names.FOLDERS)) == 0
    assert len(names.ALLOWED) <= 20
    assert all(names.ALLOWED.values())
