"""The arms of flywheel.py: how each mines its negatives, and what it trains on them."""

from dataclasses import dataclass

from quarry.mining.spec import DEFAULT_NEGATIVES
from quarry.training.forms import FormName

SEEDS = 3


@dataclass(frozen=True, slots=True)
class Arm:
    """How negatives are mined, and what is trained on them.

    Attributes:
        preset: empty: nothing is trained.
        judged: positives are the true judgments instead of clicks.
        members: that list candidates, in place of the preset's.
        naive: every clicked document is a positive, whatever its rank and the noise.
        unjudged: no judgments choose or decide: clicks alone.
        ensemble: it shows what members are worth, and runs on ``ENSEMBLE_SETS`` alone.
        negatives: mined for each pair; a training draws seven of them, anew each epoch.
        seeds: how many are run.
        development: it answers a question that is decided on development queries, and is run on these alone.
    """

    preset: str = ""
    members: tuple[str, ...] = ()
    constants: tuple[tuple[str, float], ...] = ()
    judged: bool = False
    naive: bool = False
    unjudged: bool = False
    form: FormName = "late"
    negatives: int = DEFAULT_NEGATIVES
    seeds: int = 1
    ensemble: bool = False
    development: bool = False

    @property
    def is_rule(self) -> bool:
        """Whether its negatives are what tells it from the others."""
        return bool(self.preset) and self.seeds == SEEDS


ARMS = {
    "fused": Arm(),
    "random": Arm("random", seeds=SEEDS),
    "bm25": Arm("bm25", seeds=SEEDS),
    "topk": Arm("topk", seeds=SEEDS),
    "perc-pos": Arm("perc-pos", seeds=SEEDS),
    "enterprise-2025": Arm("enterprise-2025", seeds=SEEDS),
    "quarry": Arm("quarry", seeds=SEEDS),
    "pool, uniform": Arm("quarry", constants=(("spread", 1e6),), seeds=SEEDS),
    "quarry, naive clicks": Arm("quarry", naive=True),
    "quarry, clicks alone": Arm("quarry", unjudged=True),
    "quarry, true judgments": Arm("quarry", judged=True),
    "quarry, split": Arm("quarry", form="split"),
}
PARAPHRASE = "encoder:paraphrase"
"""A member; ``Bench.examples`` puts the folder of paraphrase-MiniLM-L3 in its place."""
ENSEMBLES = {
    "quarry: dense": ("quarry", "dense"),
    "quarry: dense, paraphrase": ("quarry", "dense", PARAPHRASE),
    "quarry: dense, paraphrase, lsa": ("quarry", "dense", PARAPHRASE, "lsa"),
    "quarry: fused, paraphrase": ("quarry", "fused", PARAPHRASE),
    "quarry: fused, paraphrase, lsa": ("quarry", "fused", PARAPHRASE, "lsa"),
    "enterprise-2025: dense": ("enterprise-2025", "dense"),
    "enterprise-2025: dense, paraphrase": ("enterprise-2025", "dense", PARAPHRASE),
    "enterprise-2025: dense, paraphrase, lsa": ("enterprise-2025", "dense", PARAPHRASE, "lsa"),
}
ARMS |= {name: Arm(preset, tuple(members), ensemble=True) for name, (preset, *members) in ENSEMBLES.items()}
ARMS |= {
    f"quarry, {count} negatives": Arm("quarry", negatives=count, seeds=2, development=True)
    for count in (14, 21)
}
CONSTANTS = {
    "spread": (2.0, 4.0, 10.0, 20.0, 1e6),
    "pool": (15, 60),
    "duplicate": (0.9, 1.01),
    "together": (0.1, 1.01),
}
"""Values of the constants of `quarry` that were tried, one at a time; 1e6 and 1.01 leave one out."""
TRIED_BESIDE = {"spread": 10.0}
"""What the others were tried beside, since it was the default then."""
ARMS |= {
    f"quarry, {name} {value:g}": Arm(
        "quarry", constants=tuple((TRIED_BESIDE | {name: value}).items()), seeds=2, development=True
    )
    for name, values in CONSTANTS.items()
    for value in values
}
ENSEMBLE_SETS = {"medquad", "stackfaq, known"}
