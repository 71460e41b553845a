"""Files of synonyms and of stop words: what a line says, and back.

car, automobile, motor car        each finds the others
pc, desktop => personal computer  those on the left find those on the right, and not the other way
# a line that begins so says nothing
"""

from collections.abc import Iterable, Iterator

from quarry.v1 import collection_service_pb2

ONE_WAY = "=>"


def parse_synonyms(text: str) -> Iterator[collection_service_pb2.SynonymRule]:
    """Parses one rule a line. Raises ValueError with the line's number."""
    for number, line in _read_lines(text):
        sides = line.split(ONE_WAY)
        if len(sides) > 2:
            raise ValueError(f"line {number} has {ONE_WAY} more than once")
        phrases, *finds = [[phrase.strip() for phrase in side.split(",")] for side in sides]
        if not all(phrases) or not all(map(all, finds)):
            raise ValueError(f"line {number} has nothing on one side of a comma or an arrow")
        if not finds and len(phrases) < 2:
            raise ValueError(f"line {number} has one phrase, which needs another: {line[:80]}")
        yield collection_service_pb2.SynonymRule(phrases=phrases, finds=finds[0] if finds else [])


def parse_stop_words(text: str) -> list[str]:
    """Parses one word a line."""
    return [line for _, line in _read_lines(text)]


def dump_synonyms(rules: Iterable[collection_service_pb2.SynonymRule]) -> Iterator[str]:
    """Writes rules as ``parse_synonyms`` reads them."""
    for rule in rules:
        phrases = ", ".join(rule.phrases)
        yield f"{phrases} {ONE_WAY} {', '.join(rule.finds)}" if rule.finds else phrases


def _read_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        said = line.strip()
        if said and not said.startswith("#"):
            yield number, said
