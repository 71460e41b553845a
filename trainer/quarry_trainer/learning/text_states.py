"""States of single texts, by layers that are not trained: what they make of a text is computed once."""

from collections.abc import Collection
from operator import attrgetter
from pathlib import Path

import torch
from cachetools import LRUCache
from torch import Tensor

from quarry.models.export.onnx_export import TOKENIZER_FILE
from quarry.models.runtime.packing import arrays
from quarry.models.settings import ModelSettings
from quarry.models.tokens import Tokens
from quarry.models.torch_modules.apart_layers import ApartLayers
from quarry.models.two_steps.split_tokens import SplitTokenizer

STATE_BYTES = 2 * 2**30
"""Most memory for states; beyond it the least recently used are computed again."""


class TextStates:
    """States of queries and passages after a model's lower layers, which are frozen.

    Args:
        max_tokens: of a passage; at most what the model reads.
    """

    def __init__(self, layers: ApartLayers, folder: Path, settings: ModelSettings, max_tokens: int) -> None:
        layers.freeze_lower()
        self._layers, self._settings = layers, settings
        self.tokenizer = SplitTokenizer(folder / TOKENIZER_FILE, settings.max_tokens)
        self._query_room = self.tokenizer.query_tokens
        self._passage_room = min(max_tokens, self.tokenizer.passage_tokens)
        self._kept: LRUCache[tuple[int, str], Tensor] = LRUCache(
            STATE_BYTES, attrgetter("nbytes")
        )  # by room and text

    def share(self, other: "TextStates") -> None:
        """Uses what the other keeps from now on, if its layers make the same states."""
        if self._layers.same_below(other._layers):
            self._kept = other._kept

    def queries(self, texts: Collection[str]) -> dict[str, Tensor]:
        """Of each text, float16 on the CPU, shape ``(length, width)``."""
        return self._states(texts, self._query_room)

    def passages(self, texts: Collection[str]) -> dict[str, Tensor]:
        """As ``queries``."""
        return self._states(texts, self._passage_room)

    def query_tokens(self, texts: Collection[str]) -> dict[str, Tensor]:
        """Ids of the tokens that each query's states are of, int64, shape ``(length,)``."""
        some = list(dict.fromkeys(texts))
        found = zip(some, self.tokenizer.queries(some), strict=True)
        return {text: torch.from_numpy(tokens.ids) for text, tokens in found}

    def _states(self, texts: Collection[str], room: int) -> dict[str, Tensor]:
        """Each is read by itself: in a batch its last bits would depend on which other texts were missing,
        and a training that goes on after a kill would end elsewhere."""
        some = list(dict.fromkeys(texts))
        known = {text: states for text in some if (states := self._kept.get((room, text))) is not None}
        missing = [text for text in some if text not in known]
        for text, tokens in zip(missing, self.tokenizer.texts(missing), strict=True):
            known[text] = self._read(_cut(tokens, room))
            if known[text].nbytes <= self._kept.maxsize:
                self._kept[room, text] = known[text]
        return known

    def _read(self, tokens: Tokens) -> Tensor:
        layers = self._layers
        device = next(layers.transformer.parameters()).device
        made = arrays([tokens], self._settings.pad_id, True)
        ids, mask, _ = (torch.from_numpy(values).to(device) for values in made.values())
        training = layers.training
        layers.eval()  # no dropout below: the states are to be the same each time
        with torch.no_grad():
            states = layers.alone(ids, mask).half().cpu()
        layers.train(training)
        return states[0].clone()


def _cut(tokens: Tokens, room: int) -> Tokens:
    """At most ``room`` tokens, the last one kept as it is."""
    if len(tokens) <= room:
        return tokens
    keep = [*range(room - 1), len(tokens) - 1]
    return Tokens(tokens.ids[keep], tokens.types[keep], True)
