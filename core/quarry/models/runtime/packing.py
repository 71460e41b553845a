"""The choice of inputs for one batch, and that batch's arrays."""

from collections.abc import Sequence, Sized

import numpy as np
from numpy.typing import NDArray

from quarry.models.tokenization import Tokens

WASTE_SHARE = 1 / 16
"""A batch is closed before more than this share of it would be padding."""

Arrays = dict[str, NDArray[np.int64]]


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Packs positions in ``lengths`` into batches, longest first, at most ``budget`` tokens a batch, padding
    counted.

    An input over the budget is a batch by itself.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    longest_first = [lengths[i] for i in order]
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        size = choose_batch_size(longest_first, start, budget)
        batches.append(order[start : start + size])
        start += size
    return batches


def choose_batch_size(lengths: Sequence[int], start: int, budget: int) -> int:
    """Chooses how many of ``lengths[start:]``, longest first, make the next batch: at least one."""
    longest, wasted, size = lengths[start], 0, 1
    for position in range(start + 1, len(lengths)):
        wasted += longest - lengths[position]
        if (size + 1) * longest > budget or wasted > budget * WASTE_SHARE:
            break
        size += 1
    return size


def group_alike(batch: Sequence[Sized], precision: str) -> list[list[int]]:
    """Groups positions of ``batch`` by what is to be run at once: all, or in int8 those of one length.

    Padding moves the last bits of a sum. In int8 a number next to the border of two steps then falls on the
    other side, which is a thousand times as much, and a score would depend on its batch.
    """
    if precision != "int8":
        return [list(range(len(batch)))]
    by_length: dict[int, list[int]] = {}
    for place, one in enumerate(batch):
        by_length.setdefault(len(one), []).append(place)
    return list(by_length.values())


def make_arrays(batch: Sequence[Tokens], pad_id: int, token_types: bool) -> Arrays:
    """Makes the model's inputs by name, int64, shape ``(len(batch), longest)``, padded on the right."""
    shape = (len(batch), max(len(tokens) for tokens in batch))
    ids, mask, types = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = tokens.ids
        mask[row, : len(tokens)] = 1
        types[row, : len(tokens)] = tokens.types
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs | {"token_type_ids": types} if token_types else inputs
