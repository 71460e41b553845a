"""Writes the page of mining presets: what each is for, its rule, what it needs, and its constants."""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from quarry.mining import presets as names
from quarry_miner.presets.base import Need
from quarry_miner.presets.registry import PRESETS

HEAD = (
    "# Mining presets\n"
    "A [preset](glossary.md#preset) chooses the negatives of each (query, positive) pair: `quarry mine NAME "
    "--preset PRESET`. `--set CONSTANT=VALUE` changes one of its constants, and `--members` names the "
    "[members](glossary.md#member) that propose candidates. [Which preset, and "
    "why](../explanation/presets.md) says what each is good for and which paper it follows.\n\n"
    "In the rules, q is the query, p its positive, d a candidate, and s(x, y) the cosine of the collection's "
    "encoder, best passage. A preset that asks `dense` asks `lsa` if the collection has no encoder.\n"
)
NEEDS = {
    Need.CLICKS: "clicks",
    Need.RERANKER: "a re-ranker that serves",
    Need.CALIBRATION: "a [calibration](glossary.md#calibration) of it",
}


def write_presets() -> str:
    lines = [HEAD, "| preset | |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {summary.line} |" for name, summary in names.PRESETS.items()]
    for name in names.PRESETS:
        lines += ["", *_write_preset(name, PRESETS[name])]
    return "\n".join(lines).rstrip() + "\n"


def _write_preset(name: str, preset: type[Any]) -> Iterator[str]:
    yield from (f"## {name}", (inspect.getdoc(preset) or "").replace("``", "`"), "")
    aliases = [alias for alias, target in names.ALIASES.items() if target == name]
    if aliases:
        yield from (f"It is also called `{'`, `'.join(aliases)}`.", "")
    members = ", ".join(f"`{member}`" for member in preset.members)
    needs = " and ".join(NEEDS[need] for need in Need if need in preset.needs)
    asked = f"It asks {members}." if members else "It asks no member."
    yield asked + (f" It needs {needs}." if needs else "")
    constants = fields(preset)
    if not constants:
        return
    yield from ("", "| constant | default | from | to | |", "|---|---|---|---|---|")
    for one in constants:
        values = (one.default, one.metadata["low"], one.metadata["high"])
        numbers = " | ".join(f"{value:,.10g}" for value in values)
        yield f"| `{one.name}` | {numbers} | {one.metadata['meaning']} |"
