"""The late-interaction re-ranker in training: its head alone, on states that the encoder makes once."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quarry.models.run_settings import ModelRunSettings, read_json
from quarry.models.torch_modules.late_module import LateModule, Read, measure_rareness, save_late_model
from quarry.models.torch_modules.separate_files import copy_tokenizer
from quarry_trainer.learning.text_states import TextStates

Pair = tuple[str, str]
WEIGHT_RATE, SCALE_RATE = 3.0, 10.0
"""Learning rates of the tokens' weights and of the two factors, in times of the projection's. They are
logarithms or large numbers, and have a longer way to go."""
PULL = 3.0
"""Of projection and table towards where training began (``anchored_adamw.py``)."""


class LateForm:
    """A ``Form``.

    Nothing decays towards 0, which means nothing here: weights are pulled back to where they began.

    Attributes:
        late: the whole of it; ``module`` reads states.
        states: that ``module`` reads.
    """

    def __init__(self, folder: Path, settings: ModelRunSettings, module: LateModule, max_tokens: int) -> None:
        self.late, self._folder = module, folder
        self.states = TextStates(module, folder, settings, max_tokens)
        self.module = _OfStates(module)

    def weigh_tokens(self, passages: Collection[str]) -> None:
        """Lets tokens count by how few of ``passages`` have them, as before any training."""
        weights = measure_rareness(self.states.tokenizer, list(passages), len(self.late.head.token_weights))
        with torch.no_grad():
            self.late.head.token_weights.copy_(torch.from_numpy(weights))

    def set_factors(self, tokens: float, dense: float) -> None:
        """Sets the factors of both parts of a score; that of the tokens is over 0."""
        with torch.no_grad():
            self.late.head.log_scale.fill_(math.log(tokens))
            self.late.head.dense_weight.fill_(dense)

    def compute_parts(self, pairs: Sequence[Pair]) -> Tensor:
        """Computes both parts of each pair's score, shape ``(n, 2)``, without their factors."""
        return self.late.head.compute_parts(*self.module.read(**self.make_inputs(pairs)))

    def make_inputs(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Makes states of the queries and of the passages, each once, and which of them each pair is."""
        queries = self.states.read_queries([query for query, _ in pairs])
        passages = self.states.read_passages([passage for _, passage in pairs])
        tokens = self.states.tokenize_queries(queries)
        query_place = {text: place for place, text in enumerate(queries)}
        passage_place = {text: place for place, text in enumerate(passages)}
        return {
            "queries": _pad([states.float() for states in queries.values()]),
            "query_ids": _pad([tokens[text] for text in queries]),
            "query_mask": _make_masks(queries.values()),
            "passages": _pad([states.float() for states in passages.values()]),
            "passage_mask": _make_masks(passages.values()),
            "query_of": torch.tensor([query_place[query] for query, _ in pairs]),
            "passage_of": torch.tensor([passage_place[passage] for _, passage in pairs]),
        }

    def list_parameter_groups(self, learning_rate: float, decay: float) -> list[dict[str, Any]]:
        head = self.late.head
        rates = (
            ([head.projection, head.offset], 1.0, PULL),
            ([head.token_weights], WEIGHT_RATE, PULL),
            ([head.log_scale, head.dense_weight], SCALE_RATE, 0.0),
        )
        return [
            {
                "params": some,
                "lr": times * learning_rate,
                "weight_decay": 0.0,
                "pull": pull,
                "anchors": [parameter.detach().clone() for parameter in some],
            }
            for some, times, pull in rates
        ]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_late_model(self.late, read_json(self._folder / "config.json"), folder)
        copy_tokenizer(self._folder, folder)


class _OfStates(nn.Module):
    """The part that is trained."""

    def __init__(self, late: LateModule) -> None:
        super().__init__()
        self.head = late.head

    def forward(self, **inputs: Tensor) -> Tensor:
        scores: Tensor = self.head(*self.read(**inputs))
        return scores

    def read(
        self,
        queries: Tensor,
        query_ids: Tensor,
        query_mask: Tensor,
        passages: Tensor,
        passage_mask: Tensor,
        query_of: Tensor,
        passage_of: Tensor,
    ) -> tuple[Read, Read, Tensor]:
        """Reads query and passage of each pair, and the tokens of the query."""
        query = self.head.read(queries, query_mask).take(query_of)
        passage = self.head.read(passages, passage_mask).take(passage_of)
        return query, passage, query_ids[query_of]


def _pad(rows: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def _make_masks(rows: Collection[Tensor]) -> Tensor:
    return _pad([torch.ones(len(row), dtype=torch.long) for row in rows])
