"""The judged collections that the learning benchmarks read, and which of their queries."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from quarry_cli.inputs.judgments import read_qrels

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT.parent / "shared" / "data"
MANUAL_PAGES = ROOT / "build" / "manual-pages"
"""Made by manual_pages.py."""


@dataclass(frozen=True, slots=True)
class TestSet:
    """Documents with judged queries to learn from and to be measured by."""

    folder: str
    train: str
    test: str
    text_only: bool = False

    def titles(self) -> dict[str, str]:
        """By document id: what the document is about, where it has a title; its id elsewhere."""
        source = self.file("corpus.jsonl")
        open_file = gzip.open if source.suffix == ".gz" else open
        with open_file(source, "rb") as lines:
            records = map(json.loads, lines)
            return {one["_id"]: one["_id"] if self.text_only else one.get("title", "") for one in records}

    @property
    def path(self) -> Path:
        return MANUAL_PAGES if self.folder == MANUAL_PAGES.name else COLLECTIONS / self.folder

    def file(self, name: str) -> Path:
        """A file of the set, which may be gzipped."""
        plain = self.path / name
        return plain if plain.exists() else plain.with_name(f"{name}.gz")

    def qrels(self, part: str, most: int) -> dict[str, dict[str, int]]:
        """The judgments of at most so many queries, by chance."""
        found = read_qrels(self.path / "qrels" / f"{part}.tsv")
        return {id: found[id] for id in sorted(sorted(found, key=chance)[:most])}

    def development(self, learned: int, most: int) -> dict[str, dict[str, int]]:
        """The judgments of queries to choose by: the set's own, or train queries that none learn from."""
        if (self.path / "qrels" / "dev.tsv").exists():
            return self.qrels("dev", most)
        found = read_qrels(self.path / "qrels" / f"{self.train}.tsv")
        return {id: found[id] for id in sorted(sorted(found, key=chance)[learned : learned + most])}


def chance(id: str) -> int:
    """By which queries are drawn: the same ones each time."""
    return zlib.crc32(f"flywheel {id}".encode())


SETS = {
    "medquad": TestSet("medquad", "train", "test"),
    "manual pages": TestSet("manual-pages", "train", "test"),
    "scifact": TestSet("scifact", "train", "test"),
    "stackfaq, known": TestSet("stackfaq-webapps", "known-train", "known-test", True),
    "stackfaq, unseen": TestSet("stackfaq-webapps", "train", "test", True),
}
