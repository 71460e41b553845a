"""The names of mining presets that a request may use, and what each is for.

The rules themselves are the miner's, which need not be installed where a request is written or checked. A
test holds the two lists equal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rapidfuzz import process

from quarry.errors import UnknownValueError

DRAWS_FROM_CORPUS = ("quarry", "random")
"""Presets that may draw any document, so that such rows depend on which documents there are."""
DRAWS_FROM_REQUEST = ("in-batch",)
"""Presets whose rows depend on the request's other queries."""
READS_SCORES = ("intra-sample",)
"""Presets that read members' raw scores, not only their ranks."""
ALIASES: Mapping[str, str] = {"ensemble-2024": "enterprise-2025"}


@dataclass(frozen=True, slots=True)
class PresetSummary:
    """A preset in one line, and the names of its constants."""

    line: str
    parameters: tuple[str, ...] = ()


PRESETS: Mapping[str, PresetSummary] = {
    "quarry": PresetSummary(
        "the default: drawn from what the first stage shows, likely answers left out",
        ("pool", "spread", "duplicate", "together", "belief", "relabel"),
    ),
    "random": PresetSummary("control: documents drawn from the whole collection"),
    "bm25": PresetSummary("control: what BM25 ranks first"),
    "in-batch": PresetSummary("control: positives of other queries"),
    "topk": PresetSummary("the most similar documents, whatever they are; many of them are relevant"),
    "topk-shifted": PresetSummary("the most similar but the first ten", ("shift",)),
    "topk-abs": PresetSummary("the most similar under a fixed similarity", ("ceiling",)),
    "margin-pos": PresetSummary(
        "the most similar that are less similar than the positive by a margin", ("margin",)
    ),
    "perc-pos": PresetSummary(
        "the most similar that have at most a share of the positive's similarity", ("share",)
    ),
    "sampled-topk": PresetSummary(
        "drawn from the first that perc-pos keeps", ("share", "among", "temperature")
    ),
    "top1-sampled": PresetSummary(
        "the first that perc-pos keeps, and a draw from the next", ("share", "among", "temperature")
    ),
    "intra-sample": PresetSummary("members take turns; a document picked twice weighs twice", ("share",)),
    "enterprise-2025": PresetSummary(
        "an ensemble's nearest that is nearer to the query than the positive is"
    ),
    "semi-hard": PresetSummary(
        "a band by similarity to the positive and to the query",
        ("share", "floor", "top", "ceiling"),
    ),
    "neighborhood": PresetSummary(
        "by overlap of co-clicked documents, under a ceiling; needs clicks",
        ("epoch", "first_epoch", "pace", "highest"),
    ),
    "simans": PresetSummary("drawn near the positive's similarity", ("a", "b", "scale")),
    "denoised": PresetSummary(
        "what a calibrated re-ranker is sure does not answer the query; needs one", ("ceiling",)
    ),
    "relabelled": PresetSummary(
        "what a calibrated re-ranker puts above the positive becomes one, what it puts far below is a "
        "negative; needs one",
        ("gap",),
    ),
    "refresh": PresetSummary("drawn from what the re-ranker that serves ranks first; needs one", ("among",)),
}
"""By name, in the order in which people are shown them."""


def check_preset(name: str) -> str:
    """Checks the name of a preset and returns its own one. Raises InvalidArgumentError with the nearest
    known one."""
    if name in ALIASES:
        return ALIASES[name]
    if name not in PRESETS:
        raise UnknownValueError("preset", explain_unknown(name, "a preset", [*PRESETS, *ALIASES]))
    return name


def check_parameters(preset: str, names: Iterable[str]) -> None:
    """Raises InvalidArgumentError unless all are constants of ``preset``."""
    known = PRESETS[preset].parameters
    for name in names:
        if name not in known:
            problem = explain_unknown(name, f"a constant of {preset}", known)
            raise UnknownValueError(f"parameters[{name[:80]}]", problem)


def explain_unknown(name: str, kind: str, known: Iterable[str]) -> str:
    """Says that ``name`` is not ``kind``, and which known name is the nearest."""
    names = list(known)
    nearest = process.extractOne(name, names)
    hint = f"; did you mean {nearest[0]}? Known: {', '.join(names)}" if nearest else "; it has none"
    return f"{name[:80]!r} is not {kind}{hint}"
