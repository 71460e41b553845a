"""The rounding of passage states, kept or not, so that scores do not depend on what is kept."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.models.runtime.quantize import TOKEN_LEVELS

States = NDArray[np.float16] | NDArray[np.uint8]
"""The states of one text as a form keeps them, with a row for each token."""
_SCALE_BYTES = 4
_SMALLEST = np.float32(1e-9)


class StateForm(Protocol):
    """One way to keep states.

    Attributes:
        name: part of what they are kept under.
    """

    @property
    def name(self) -> str: ...
    def keep(self, states: NDArray[np.float32]) -> States:
        """Rounds ``states``, shape ``(tokens, width)``, in an array of their own. Those that are not finite
        or too large for the form are no more finite when they are read."""
        ...

    def read(self, kept: States) -> NDArray[np.floating]:
        """Reads what was kept, shape ``(tokens, width)``."""
        ...


@dataclass(frozen=True, slots=True)
class HalfStates:
    """float16: two bytes a number."""

    name: str = "f16"

    def keep(self, states: NDArray[np.float32]) -> States:
        with np.errstate(over="ignore"):
            return states.astype(np.float16)

    def read(self, kept: States) -> NDArray[np.floating]:
        return kept.view(np.float16)


@dataclass(frozen=True, slots=True)
class ByteStates:
    """int8 with a float32 scale a token, which takes the last four bytes of its row.

    The joint layers in int8 round what they multiply to the same numbers, so little more is lost.
    """

    name: str = "i8"

    def keep(self, states: NDArray[np.float32]) -> States:
        kept = np.empty((len(states), states.shape[1] + _SCALE_BYTES), np.uint8)
        scales = np.maximum(np.abs(states).max(axis=1, keepdims=True), _SMALLEST) / np.float32(TOKEN_LEVELS)
        with np.errstate(invalid="ignore"):
            kept[:, :-_SCALE_BYTES] = np.rint(states / scales).astype(np.int8).view(np.uint8)
        kept[:, -_SCALE_BYTES:] = scales.astype("<f4").view(np.uint8)
        return kept

    def read(self, kept: States) -> NDArray[np.floating]:
        scales = np.ascontiguousarray(kept[:, -_SCALE_BYTES:]).view("<f4")
        states: NDArray[np.float32] = kept[:, :-_SCALE_BYTES].view(np.int8) * scales
        return states


@dataclass(frozen=True, slots=True)
class ExactStates:
    """float32, as they come: to compare with, not to keep."""

    name: str = "f32"

    def keep(self, states: NDArray[np.float32]) -> States:
        return np.ascontiguousarray(states, "<f4").view(np.uint8)

    def read(self, kept: States) -> NDArray[np.floating]:
        return kept.view("<f4")


EXACT = ExactStates()
FORMS: dict[str, StateForm] = {"fp32": HalfStates(), "int8": ByteStates()}
"""By the precision of the joint layers."""
