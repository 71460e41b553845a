"""Examination from interventions that happened anyway: pairs that were displayed at different ranks.

Another version of the model, a new document, or a changed weight moves documents between ranks; every such
move compares two ranks on the same relevance.

Source: Agarwal, Zaitsev, Wang, Li, Najork and Joachims, Estimating Position Bias without Intrusive
Interventions, WSDM 2019.
"""

from quarry.clicks.counts import make_pair_keys
from quarry.clicks.examination.fixed_effects import ComparedHits, estimate_within
from quarry.clicks.log import ClickLog
from quarry.clicks.model import Examination
from quarry.errors import NoFeedbackError


def harvest_examination(log: ClickLog) -> Examination:
    """Estimates all ranks from all pairs at once, each pair a stratum; see ``fixed_effects`` for the
    estimator.

    It uses the moves that AllPairs uses, and in place of one relevance for each pair of ranks none at all;
    so it needs no weights by which each (query, document) would count alike, and a pair seen often tells
    more.

    Raises:
        NoFeedbackError: nothing was clicked.
    """
    if not log.clicked.any():
        raise NoFeedbackError
    return estimate_within(log, ComparedHits.from_pages(log, log.shown, make_pair_keys(log)))
