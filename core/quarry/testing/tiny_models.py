"""Tiny models built from a seed, for our tests and for whoever extends Quarry. Needs no network."""

import json
import random
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION = ".,;:!?'\"()-_/%"
SYLLABLES = [a + b for a in "bcdfglmnprst" for b in "aeiou"]
TINY_MAX_TOKENS = 64


def make_tiny_vocabulary(seed: int) -> list[str]:
    """Makes a WordPiece vocabulary in which every lower-case ASCII text has tokens: letters, syllables,
    words."""
    rng = random.Random(seed)
    pieces = [*LETTERS, *PUNCTUATION, *SYLLABLES, *("##" + piece for piece in [*LETTERS, *SYLLABLES])]
    words = {"".join(rng.choices(SYLLABLES, k=rng.randint(2, 3))) for _ in range(200)}
    return list(dict.fromkeys([*SPECIAL, *pieces, "the", "of", "and", "to", "in", "is", *sorted(words)]))


def make_tiny_encoder(folder: Path, seed: int) -> Path:
    """Writes a two-layer BERT encoder with mean pooling, 32 dimensions and 64 tokens; returns ``folder``."""
    from transformers import BertModel

    _write(folder, seed, lambda config: BertModel(config, add_pooling_layer=False))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(
            [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        )
    ]
    _dump(folder / "modules.json", modules)
    _dump(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    _dump(folder / "sentence_bert_config.json", {"max_seq_length": TINY_MAX_TOKENS})
    return folder


def make_tiny_cross_encoder(folder: Path, seed: int, labels: int = 1) -> Path:
    """Writes a two-layer BERT cross-encoder of 64 tokens; returns ``folder``."""
    from transformers import BertForSequenceClassification

    _write(folder, seed, lambda config: BertForSequenceClassification(config), num_labels=labels)
    return folder


def _write(folder: Path, seed: int, build: Any, **settings: Any) -> None:
    import torch
    from transformers import BertConfig

    vocabulary = make_tiny_vocabulary(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=TINY_MAX_TOKENS,
        initializer_range=0.2,  # wide enough that different texts get clearly different outputs
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config)
    model.save_pretrained(folder)
    _write_tokenizer(folder, vocabulary)


def _write_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary.index("[CLS]")), ("[SEP]", vocabulary.index("[SEP]"))],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _dump(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "model_max_length": TINY_MAX_TOKENS, "do_lower_case": True},
    )


def _dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
