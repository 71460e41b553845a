"""The steps that every model's work is made of: prepare inputs, pack them, run batches."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

from quarry.models.base import ModelInfo
from quarry.models.runtime.packing import pack


class PreparedInput(Protocol):
    """An input of a model, ready to be run; its length is in tokens.

    Attributes:
        truncated: whether it was longer than the model reads.
    """

    @property
    def truncated(self) -> bool: ...
    def __len__(self) -> int: ...


Item_contra = TypeVar("Item_contra", contravariant=True)
Input = TypeVar("Input", bound=PreparedInput)
Output = TypeVar("Output")
Output_co = TypeVar("Output_co", covariant=True)


@runtime_checkable
class BatchModel(Protocol[Item_contra, Input, Output_co]):
    """A model whose work is done in steps, each from any thread."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def batch_tokens(self) -> int:
        """Size of the batches that it runs fastest, padding counted."""
        ...

    @property
    def parallel(self) -> int:
        """How many batches it should be given at once."""
        ...

    def prepare(self, items: Sequence[Item_contra]) -> list[Input]:
        """Prepares an input of each item, in order."""
        ...

    def run(self, batch: Sequence[Input]) -> Sequence[Output_co]:
        """Runs each input and returns its output, in order.

        All in one batch, so they should be of like length.
        """
        ...


@runtime_checkable
class PartialModel(Protocol[Item_contra]):
    """A model that may have done a part of the work before it is asked."""

    def estimate_shares(self, items: Sequence[Item_contra]) -> list[float]:
        """Estimates how much of each item's work is left at most, in (0, 1]. Takes no time to speak of."""
        ...


def measure_work(one: PreparedInput) -> int:
    """Measures what the input costs, in tokens: its own ``work`` where a part may be done already, else
    its length."""
    tokens: int = getattr(one, "work", None) or len(one)
    return tokens


def run_all(model: BatchModel[Item_contra, Input, Output], inputs: Sequence[Input]) -> list[Output]:
    """Runs all inputs and returns their outputs, in order, on as many threads as the model wants."""
    packed = pack([len(one) for one in inputs], model.batch_tokens)
    batches = [[inputs[position] for position in batch] for batch in packed]
    outputs: dict[int, Output] = {}
    for positions, results in zip(packed, _run(model, batches), strict=True):
        outputs.update(zip(positions, results, strict=True))
    return [outputs[position] for position in range(len(inputs))]


def _run(
    model: BatchModel[Item_contra, Input, Output], batches: Sequence[Sequence[Input]]
) -> list[Sequence[Output]]:
    threads = min(model.parallel, len(batches))
    if threads <= 1:
        return [model.run(batch) for batch in batches]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(model.run, batches))
