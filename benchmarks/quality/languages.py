"""BM25 on manual pages of several languages, each searched for by its one-line description.

    python benchmarks/quality/languages.py FOLDER

FOLDER holds the unpacked Debian packages manpages-ja, manpages-fr, manpages-pt-br, manpages-es and
manpages-de, as ``dpkg -x PACKAGE FOLDER`` leaves them. One JSON line a language: nDCG@10 of all queries as
they are written, of those with accents without them, and how many queries found nothing.
"""

import gzip
import json
import math
import re
import sys
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import Field, FieldType, Schema
from quarry.types import Change, Docno

LANGUAGES = {"ja": "ja", "fr": "fr", "pt": "pt_BR", "es": "es", "de": "de"}
"""Folders of manual pages, by language."""


class Page(NamedTuple):
    description: str
    text: str


def main(folder: Path) -> None:
    for language, name in LANGUAGES.items():
        files = sorted((folder / "usr/share/man" / name).glob("man*/*.gz"))
        pages = [page for file in files if not file.is_symlink() and (page := read_page(file))]
        if language == "ja":  # some are not translated
            pages = [page for page in pages if re.search("[ぁ-ん]", page.description)]
        with TemporaryDirectory() as place:
            print(json.dumps({"language": language, **measure(Path(place), language, pages)}))


def read_page(file: Path) -> Page | None:
    """Reads the description and the other sections of a page; None for one without them."""
    text = gzip.decompress(file.read_bytes()).decode(errors="replace")
    text = re.sub(r'^\.\\".*\n', "", text, flags=re.MULTILINE)
    text = re.sub(r"\\f[A-Z]|\\f\(..|\\[,/&|^]", "", text).replace("\\-", "-")
    sections = re.split(r'^\.SH +"?(.*?)"? *$', text, flags=re.MULTILINE)
    if len(sections) < 5:
        return None
    named = re.match(
        r"(.+?) -+ +(.+)", re.sub(r"^\.\S+ ?", "", sections[2], flags=re.M).strip().replace("\n", " ")
    )
    rest = "\n".join(re.sub(r"^\.\S* ?", "", part, flags=re.MULTILINE) for part in sections[3:])
    return Page(named[2].strip(), rest) if named and len(named[2].strip()) > 3 and len(rest) >= 200 else None


def measure(folder: Path, language: str, pages: list[Page]) -> dict[str, float]:
    schema = Schema((Field("text", FieldType.TEXT, language=language),))
    index = TantivyIndex(folder / "lexical", "1", schema)
    index.apply([Change(Docno(n), n + 1, {"text": page.text}) for n, page in enumerate(pages)])
    index.commit(len(pages))
    queries = {Docno(n): page.description for n, page in enumerate(pages)}
    found = {
        "pages": len(pages),
        "ndcg": compute_ndcg(index, queries),
        "found_nothing": sum(not index.search(text, 1, None).total for text in queries.values()),
    }
    if language != "ja":
        stripped = {n: strip_accents(text) for n, text in queries.items() if not text.isascii()}
        found |= {"stripped": len(stripped), "stripped_ndcg": compute_ndcg(index, stripped)}
    index.close()
    return found


def compute_ndcg(index: TantivyIndex, queries: dict[Docno, str]) -> float:
    """Computes the mean nDCG@10 of queries with one right document each."""
    gains = []
    for docno, text in queries.items():
        ranked = [candidate.docno for candidate in index.search(text, 10, None).candidates]
        gains.append(1 / math.log2(ranked.index(docno) + 2) if docno in ranked else 0.0)
    return round(math.fsum(gains) / len(gains), 4)


def strip_accents(text: str) -> str:
    letters = unicodedata.normalize("NFD", text).replace("ß", "ss")
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
