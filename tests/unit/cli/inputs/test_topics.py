"""Queries in the formats that people have them in."""

import gzip

import pytest

from quarry_cli.failures import CliError
from quarry_cli.inputs.topics import read_queries

WANTED = {"301": "International Organized Crime", "302": "Poliomyelitis & Post-Polio"}
TREC = """<top>
<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations.
</top>

<top>
<num> Number: 302 </num>
<title> Poliomyelitis &amp;
Post-Polio </title>
</top>
"""
NUMBERED = """<?xml version="1.0"?>
<topics>
  <topic number="301" type="faceted"><query>International Organized Crime</query></topic>
  <topic number='302'><title>Poliomyelitis &amp; Post-Polio</title></topic>
</topics>
"""


@pytest.mark.parametrize(
    "text",
    [
        TREC,
        NUMBERED,
        "301\tInternational Organized Crime\n302\tPoliomyelitis & Post-Polio\n",
        "\ufeffQid\tquery\n301\tInternational Organized Crime\n\n302\tPoliomyelitis & Post-Polio\n",
        "id,text\n301,International Organized Crime\n302,Poliomyelitis & Post-Polio\n",
        '301,"International Organized Crime"\r\n302,Poliomyelitis & Post-Polio\r\n',
        "id,text,notes\n301,International Organized Crime,old\n302,Poliomyelitis & Post-Polio\n",
        "lang,text,topic_id\nen,International Organized Crime,301\nen,Poliomyelitis & Post-Polio,302\n",
        '{"_id": "301", "text": "International Organized Crime"}\n'
        '{"qid": 302, "query": "Poliomyelitis & Post-Polio"}\n',
    ],
    ids=[
        "trec",
        "numbered",
        "tabs",
        "tabs, header",
        "csv",
        "csv, no header",
        "csv, notes",
        "csv, more columns",
        "json",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_queries_are_read_from_every_format(tmp_path, text, packed):
    path = tmp_path / "topics"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_queries(path, set(WANTED)) == WANTED


def test_a_quoted_text_keeps_its_commas_and_its_lines(tmp_path):
    (tmp_path / "q.csv").write_text('id,text\n1,"red, green\nand blue"\n')
    assert read_queries(tmp_path / "q.csv", {"1"}) == {"1": "red, green\nand blue"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<top>\n<num> Number: 1\n</top>\n", ":1: the topic has no <num> or no <title>"),
        ("<top>\n<num> 1\n<title> a\n</top>\n<top><title> b</top>\n", ":5: the topic has no"),
        (
            "<top><num> 1 <title> a\n</top>\n<top><num> 2 <title> b\n<top><num> 3 <title> c</top>",
            ":3: the topic does",
        ),
        ("<top><num> 1 <title> a\n</top>\n\n<top><num> 2 <title> b\n", ":4: the topic does not end"),
        (
            "<topic number='1'><title>a</title>\n<topic number='2'><title>b</title></topic>",
            ":1: the topic does",
        ),
        ("<topics>\n</topics>\n", "begins like TREC's topics, and holds no <top>"),
        ("1,red, green\n", ":1: '1 | red | green' is no query"),
        ("id,text\n1,red, green\n", ":2: '1 | red | green' is no query"),
        ("id,text,notes\n1,red, green,old\n", ":2: '1 | red | green | old' is no query"),
        ("id,text,notes\n1\n", ":2: '1' is no query"),
        ("1\tred\n2\n", ":2: '2' is no query"),
        ("id\ttext\n\tred\n", ":2: ' | red' is no query"),
        ('id,text\n1,"red\n', "is not CSV"),
        ("1\tred\n1\tblue\n", ":2: query 1 has another text"),
        ("just a question\n", ":1: 'just a question' is no query"),
        ("", "1 of 1 queries that are judged are missing"),
    ],
)
def test_what_holds_no_queries_is_an_error_that_names_the_line(tmp_path, text, said):
    (tmp_path / "q").write_text(text)
    with pytest.raises(CliError) as caught:
        read_queries(tmp_path / "q", {"1"})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("<title> strike < text\n", "strike < text"),
        ("<title> a <b and c> d\n<desc> Description:\nx", "a <b and c> d"),
        ("<title> Topic: red < 5\nand blue\n<nar> x", "red < 5 and blue"),
        ("<title>vec<int> &lt; vec</title><desc>x</desc>", "vec<int> < vec"),
        ("<title> red <desc> x", "red"),
    ],
)
def test_a_title_keeps_what_is_no_tag_of_a_topic(tmp_path, title, text):
    (tmp_path / "q").write_text(f"<top>\n<num> 1\n{title}</top>\n")
    assert read_queries(tmp_path / "q", {"1"}) == {"1": text}
