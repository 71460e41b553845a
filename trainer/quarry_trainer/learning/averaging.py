"""Weights on the way from where training began to where it ended.

What is won on documents that were learned of grows slower along it than what is lost on others, so a point in
between has most of the one for little of the other: weight-space ensembles, Wortsman et al., CVPR 2022.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LEARNED_SHARE = 0.6
"""Share of the way that the weights go, chosen on development queries in trials that no command repeats."""


class Averaging:
    """The average of a model's weights with those before its training. Made of a model that is yet to be
    trained.

    Args:
        model: as it is now, where training begins; what is not trained is not looked at.
        share: of the way, in (0, 1]; 1 is its end.
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self._model, self._share = model, share
        self._start = self._copy()

    @contextmanager
    def use_average(self) -> Iterator[None]:
        """Gives the model the averaged weights until the block ends."""
        trained = self._copy()
        self.apply()
        try:
            yield
        finally:
            self._set(trained)

    def apply(self) -> None:
        """Gives the model the averaged weights for good; call it once, when training has ended."""
        if self._share < 1:
            # Training may have moved the model to another device since.
            self._set({n: torch.lerp(self._start[n].to(p), p, self._share) for n, p in self._copy().items()})

    def _copy(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self._list_trained()}

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._list_trained():
                parameter.copy_(weights[name])

    def _list_trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self._model.named_parameters() if p.requires_grad)
