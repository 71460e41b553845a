"""The certainty of examination once relevance has been learned from the same clicks."""

import numpy as np
from scipy import sparse

from quarry.clicks.counts import Cells
from quarry.clicks.fitting.linear import LEAST, Contexts
from quarry.clicks.fitting.shrinkage import BetaPrior
from quarry.clicks.log import Float64

_FLAT = 1e-10


def compute_covariance(
    cells: Cells, contexts: Contexts, relevance: Float64, prior: BetaPrior, trust: bool = False
) -> Float64:
    """Computes the covariance of the contexts' parameters, shape ``(q, q)``, by the Fisher information.

    What each pair's own unknown relevance takes away is taken away (the Schur complement of its part), so
    only contexts that the same pairs were seen in inform each other, and through the prior, as far as it
    goes, contexts of unlike pairs. Directions that nothing tells, the common scale
    among them, are left out (a pseudo-inverse): only what does not depend on them may be read from it.

    Args:
        relevance: float64 in (0, 1), shape ``(p,)``.
        prior: of relevance, that the contexts were learned with.
        trust: the parameters are then the click rates of relevant hits (``alpha + beta``), followed by those
            of irrelevant ones (``beta``); ``q = 2 * contexts``. Without, log ``alpha``; ``q = contexts``.
    """
    g = relevance[cells.pair]
    alpha, beta = contexts.alpha[cells.context], contexts.beta[cells.context]
    clicking = np.clip(alpha * g + beta, LEAST, 1 - LEAST)
    weight = cells.shown / (clicking * (1 - clicking))
    cell = np.arange(len(g))
    if trust:
        of_high = sparse.csr_array((g, (cell, cells.context)), (len(g), 2 * cells.contexts))
        of_low = sparse.csr_array((1 - g, (cell, cells.context + cells.contexts)), of_high.shape)
        slopes = of_high + of_low
    else:
        slopes = sparse.csr_array((alpha * g, (cell, cells.context)), (len(g), cells.contexts))
    of_relevance = alpha * g * (1 - g)  # the derivative by the log-odds
    weighted = slopes.multiply(weight[:, None]).tocsr()
    alone = (slopes.T @ weighted).toarray()
    to_pair = sparse.csr_array((of_relevance, (cells.pair, cell)), (len(cells.starts), len(g)))
    shared = (to_pair @ weighted).tocsr()
    held = (prior.a + prior.b) * relevance * (1 - relevance)
    own = np.maximum(cells.sum_by_pair(weight * of_relevance**2) + held, LEAST * LEAST)
    lost = (shared.T @ shared.multiply(1 / own[:, None]).tocsr()).toarray()
    inverse: Float64 = np.linalg.pinv(alone - lost, rcond=_FLAT, hermitian=True)
    return inverse
