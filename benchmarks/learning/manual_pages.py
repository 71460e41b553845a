"""Makes a judged collection whose entities have facets, of Debian's manual pages of C functions.

A document is one section of one page: its title is the page's name, its text the section without the heading.
A query asks for one section of one page, by the page's name or by what it is for. As with diseases, the first
stage finds the page, and the negatives that matter are the page's other sections. No page is in two of train,
dev and test. The pages are those of the package ``manpages-dev``, which the script downloads by ``apt-get``;
``groff`` renders them. The queries are made from templates: a gain here says that negatives matter, not how
people ask.

    python benchmarks/learning/manual_pages.py --out build/manual-pages
"""

import argparse
import gzip
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "manpages-dev"
PAGES = 700
"""That are taken, by chance; the others would add time and no new kind of page."""
LEAST_CHARACTERS = 40
SHARES = (("train", 0.6), ("dev", 0.75), ("test", 1.0))
"""Each part ends at this share of the pages."""
TEMPLATES = {
    "SYNOPSIS": ("How is {} declared?", "Which header and prototype does {} need?"),
    "DESCRIPTION": ("What does {} do?", "How does {} work?"),
    "RETURN VALUE": ("What does {} return?", "How do I see that {} has succeeded?"),
    "ERRORS": ("Why can {} fail?", "Which errno values does {} set?"),
    "ATTRIBUTES": ("Is {} thread-safe?", "May several threads call {}?"),
    "VERSIONS": ("Since when is there {}?", "Which release brought {}?"),
    "STANDARDS": ("Which standards specify {}?", "Is {} portable?"),
    "NOTES": ("What should I know about {} besides?", "Remarks on {}"),
    "BUGS": ("Which defects does {} have?", "What is known to be broken in {}?"),
    "EXAMPLES": ("Show a program that uses {}", "Sample code for {}"),
    "SEE ALSO": ("What is related to {}?", "Which pages belong with {}?"),
}

Sections = dict[str, str]


def pages(folder: Path) -> Iterator[tuple[str, Sections]]:
    """Name and sections of each page of the package, shuffled; links to other pages are left out."""
    _run("apt-get", "download", PACKAGE, cwd=folder)
    (package,) = folder.glob("*.deb")
    _run("dpkg-deb", "-x", package, folder)
    found = (folder / "usr/share/man").glob("man[23]/*.gz")
    files = sorted(file for file in found if not file.is_symlink())
    for file in random.Random(0).sample(files, len(files)):
        source = gzip.decompress(file.read_bytes())
        if not source.lstrip().startswith(b".so "):
            yield file.name.removesuffix(".gz"), sections(render(source))


def render(source: bytes) -> str:
    flags = ("-t", "-man", "-Tascii", "-P-cbou", "-rLL=200n", "-rHY=0")
    return _run("groff", *flags, input=source).decode()


def _run(program: str, *arguments: str | Path, **options: Any) -> bytes:
    path = shutil.which(program) or sys.exit(f"{program} is not installed")
    made: bytes = subprocess.run([path, *arguments], check=True, capture_output=True, **options).stdout
    return made


def sections(page: str) -> Sections:
    """The text of each section by its heading, which is what begins in the first column."""
    found: Sections = {}
    heading = ""
    for line in page.splitlines():
        if re.match(r"[A-Z][A-Z ]+$", line):
            heading = line.strip()
        elif heading:
            found[heading] = f"{found.get(heading, '')} {line.strip()}".strip()
    return {name: " ".join(text.split()) for name, text in found.items()}


def write(out: Path) -> None:
    """Writes corpus, queries and judgments as BEIR has them."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "qrels").mkdir(exist_ok=True)
    lines: dict[str, list[str]] = {part: ["query-id\tcorpus-id\tscore"] for part, _ in SHARES}
    corpus: list[str] = []
    queries: list[str] = []
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        taken = [page for page, _ in zip(pages(Path(folder)), range(PAGES), strict=False)]
    for number, (name, found) in enumerate(taken):
        part = next(part for part, end in SHARES if number < end * len(taken))
        purpose = found.get("NAME", "").partition(" - ")[2].rstrip(".")
        for heading, templates in TEMPLATES.items():
            if len(found.get(heading, "")) < LEAST_CHARACTERS:
                continue
            document, query = f"{name}/{heading.lower().replace(' ', '-')}", f"q{len(queries)}"
            corpus.append(json.dumps({"_id": document, "title": name, "text": found[heading]}))
            by_name = chance.random() < 0.5 or not purpose
            subject = name.partition(".")[0] if by_name else f"the function to {purpose}"
            text = chance.choice(templates).format(subject)
            queries.append(json.dumps({"_id": query, "text": text}))
            lines[part].append(f"{query}\t{document}\t1")
    (out / "corpus.jsonl").write_text("\n".join(corpus) + "\n")
    (out / "queries.jsonl").write_text("\n".join(queries) + "\n")
    for part, of in lines.items():
        (out / "qrels" / f"{part}.tsv").write_text("\n".join(of) + "\n")
    print(f"{len(taken)} pages, {len(corpus)} documents, {len(queries)} queries")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
