"""AdamW that can hold weights near to where training began."""

from collections.abc import Callable
from typing import Any

import torch


class AnchoredAdamW(torch.optim.AdamW):
    """AdamW whose weights decay towards what they began with, where a group of parameters says so.

    Weights that began as something good are worse at what training does not show them the further they go, so
    0 is the wrong place to decay to (L2-SP; Li, Grandvalet and Davoine, ICML 2018). A group has ``anchors``,
    a tensor for each of its parameters, and ``pull``: of the way back to them, each step goes ``lr * pull``.
    Both are in the state that a checkpoint keeps.
    """

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in filter(lambda group: group.get("pull"), self.param_groups):
                share = min(1.0, group["lr"] * group["pull"])
                for parameter, anchor in zip(group["params"], group["anchors"], strict=True):
                    parameter.lerp_(anchor.to(parameter), share)
        return loss
