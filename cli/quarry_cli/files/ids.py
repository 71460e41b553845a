"""The id of a document: a field of its record, or a hash of all that the record says."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quarry_cli.console import count_things
from quarry_cli.failures import CliError
from quarry_cli.files.shaping import BEIR_ID, to_field_name
from quarry_cli.inputs.schema_file import suggest

USUAL_IDS = (BEIR_ID, "id")
HASH_BYTES = 16
SHOWN_REASONS = 2
LIKE_AN_ID = (
    ("identifier", "docid", "doc_id", "document_id", "uuid", "guid"),
    ("sku", "isbn", "issn", "doi", "asin", "ean", "gtin", "upc", "pmid", "slug", "key", "code"),
    ("url", "uri", "permalink", "link"),
)
"""Names that say that a value stands for its record, those that say it best in front."""


@dataclass(frozen=True, slots=True)
class IdRule:
    """The rule by which the id of a record is found.

    Attributes:
        keys: names of fields, the first of which that has a value is the id; none: a hash of the content.
        reason: why it is so, for people; empty if it goes without saying.
    """

    keys: tuple[str, ...] = USUAL_IDS
    reason: str = ""

    def take(self, fields: dict[str, Any]) -> str:
        """Takes the id out of the fields. Raises ValueError if there is none."""
        if not self.keys:
            return hash_content(fields)
        key = next((key for key in self.keys if fields.get(key) not in (None, "")), None)
        if key is None:
            raise ValueError(f"has no {self.keys[0]}")
        found = fields.pop(key)
        if isinstance(found, float) and found.is_integer():  # columns with gaps arrive as floats
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise ValueError(f"{key} is {found!r:.60}, not a string")
        return str(found)


def hash_content(fields: Mapping[str, Any]) -> str:
    """Hashes all values with their names, whatever their order: 32 hexadecimal digits."""
    content = json.dumps(fields, default=str, sort_keys=True)  # orjson takes no integer of over 64 bits
    return hashlib.blake2b(content.encode(), digest_size=HASH_BYTES).hexdigest()


def choose_ids(sample: Sequence[Mapping[str, Any]], wanted: str | None) -> IdRule:
    """Chooses by what the first records have.

    Args:
        sample: fields of the first records.
        wanted: the field that was named; None: ``_id`` or ``id`` if a record has one, else a field that is
            named like an id and has another value in each record, else a hash.

    Raises:
        CliError: no record has the field that was named, or ``_id`` would be a field beside it.
    """
    names = list(dict.fromkeys(name for fields in sample for name in fields))
    if wanted is not None:
        found = next((name for name in (wanted, to_field_name(wanted)) if name in names), None)
        if found is None:
            raise CliError(f"no record has a field {wanted!r:.80}{suggest(wanted, tuple(names))}")
        if found != BEIR_ID and BEIR_ID in names:
            advice = f"--map '{BEIR_ID}=NAME' gives it one, --map '{BEIR_ID}=' leaves it out"
            raise CliError(f"{BEIR_ID!r} is no name of a field, unless it is the id", advice)
        return IdRule((found,))
    if not sample or any(key in names for key in USUAL_IDS):
        return IdRule()
    refused = []
    for name in sorted(filter(rank_id_name, names), key=rank_id_name):
        problem = find_problem(sample, name)
        if not problem:
            return IdRule(
                (name,), f"{name}, which is another one in each of {count_things(len(sample), 'record')}"
            )
        refused.append(f"{name} {problem}")
    why = "; ".join(refused[:SHOWN_REASONS]) or "no field is called like an id"
    return IdRule((), f"a hash of the content, as {why}")


def rank_id_name(name: str) -> int:
    """Ranks a name by how surely it says that it is an id: from 1, the best, or 0 for none."""
    plain = name.casefold()
    if plain == "id":
        return 1
    for rank, names in enumerate(LIKE_AN_ID, 2):
        if plain in names:
            return rank
    ends_so = plain.endswith(("_id", ".id", "_uuid", "_sku")) or name.endswith(("Id", "ID"))
    return 3 if ends_so else 0


def find_problem(sample: Sequence[Mapping[str, Any]], name: str) -> str:
    """Finds why a field is no id; empty if it is one."""
    values = [fields.get(name) for fields in sample]
    if missing := sum(value in (None, "") for value in values):
        return f"is missing in {missing:,} of {len(values):,} records"
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        return "is not always a string"
    seen: set[str] = set()
    for value in map(str, values):
        if value in seen:
            return f"is {value!r:.60} more than once"
        seen.add(value)
    return ""
