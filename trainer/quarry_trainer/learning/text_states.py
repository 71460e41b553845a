"""States of single texts, by layers that are not trained: what they make of a text is computed once."""

from collections.abc import Collection
from operator import attrgetter
from pathlib import Path

import torch
from cachetools import LRUCache
from torch import Tensor

from quarry.models.export.onnx_export import TOKENIZER_FILE
from quarry.models.run_settings import ModelRunSettings
from quarry.models.runtime.packing import make_arrays
from quarry.models.tokenization import Tokens
from quarry.models.torch_modules.separate_layers import SeparateLayers
from quarry.models.two_steps.split_tokens import SplitTokenizer

STATE_BYTES = 2 * 2**30
"""Most memory for states; beyond it the least recently used are computed again."""


class TextStates:
    """States of queries and passages after a model's lower layers, which are frozen.

    Args:
        max_tokens: of a passage; at most what the model reads.
    """

    def __init__(
        self, layers: SeparateLayers, folder: Path, settings: ModelRunSettings, max_tokens: int
    ) -> None:
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
        if self._layers.has_same_lower_layers(other._layers):
            self._kept = other._kept

    def read_queries(self, texts: Collection[str]) -> dict[str, Tensor]:
        """Reads the states of each text, float16 on the CPU, shape ``(length, width)``."""
        return self._read_states(texts, self._query_room)

    def read_passages(self, texts: Collection[str]) -> dict[str, Tensor]:
        """Reads the states of passages, as ``read_queries`` does."""
        return self._read_states(texts, self._passage_room)

    def tokenize_queries(self, texts: Collection[str]) -> dict[str, Tensor]:
        """Tokenizes each query: ids of the tokens that its states are of, int64, shape ``(length,)``."""
        some = list(dict.fromkeys(texts))
        found = zip(some, self.tokenizer.encode_queries(some), strict=True)
        return {text: torch.from_numpy(tokens.ids) for text, tokens in found}

    def _read_states(self, texts: Collection[str], room: int) -> dict[str, Tensor]:
        """Reads each text by itself: in a batch its last bits would depend on which other texts were missing,
        and a training that goes on after a kill would end elsewhere."""
        some = list(dict.fromkeys(texts))
        known = {text: states for text in some if (states := self._kept.get((room, text))) is not None}
        missing = [text for text in some if text not in known]
        for text, tokens in zip(missing, self.tokenizer.encode_texts(missing), strict=True):
            known[text] = self._read(_cut(tokens, room))
            if known[text].nbytes <= self._kept.maxsize:
                self._kept[room, text] = known[text]
        return known

    def _read(self, tokens: Tokens) -> Tensor:
        layers = self._layers
        device = next(layers.transformer.parameters()).device
        made = make_arrays([tokens], self._settings.pad_id, True)
        ids, mask, _ = (torch.from_numpy(values).to(device) for values in made.values())
        training = layers.training
        layers.eval()  # no dropout below: the states are to be the same each time
        with torch.no_grad():
            states = layers.encode_alone(ids, mask).half().cpu()
        layers.train(training)
        return states[0].clone()


def _cut(tokens: Tokens, room: int) -> Tokens:
    """Cuts to at most ``room`` tokens, the last one kept as it is."""
    if len(tokens) <= room:
        return tokens
    keep = [*range(room - 1), len(tokens) - 1]
    return Tokens(tokens.ids[keep], tokens.types[keep], True)
