"""How much of a text a vocabulary lacks is measured in characters, whatever kind of vocabulary it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from quarry.models.tokenization import TextTokenizer
from quarry.testing import make_tiny_encoder

LATIN = ["the quick brown fox jumps over a lazy dog", "pack my box with five dozen liquor jugs"]
RUSSIAN = ["как восстановить пароль", "состояние заказа показано в личном кабинете"]


def make_sentence_pieces(folder: Path) -> Path:
    """Writes a Unigram vocabulary of ``LATIN``, which joins what is unknown to one token a word."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60,
        special_tokens=["<unk>"],
        unk_token="<unk>",  # noqa: S106
        show_progress=False,
    )
    tokenizer.train_from_iterator(LATIN, trainer)
    return save(tokenizer, folder)


def make_bytes(folder: Path) -> Path:
    """Writes a vocabulary of bytes, to which nothing is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=300, show_progress=False
    )
    tokenizer.train_from_iterator(LATIN, trainer)
    return save(tokenizer, folder)


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("make", [lambda folder: make_tiny_encoder(folder, seed=3), make_sentence_pieces])
def test_a_latin_vocabulary_lacks_russian(make: Callable[[Path], Path], tmp_path: Path) -> None:
    tokenizer = TextTokenizer(make(tmp_path) / "tokenizer.json", 64)
    assert tokenizer.measure_unknown_share(LATIN) == 0
    assert tokenizer.measure_unknown_share(RUSSIAN) == 1


def test_the_share_is_one_of_characters(tmp_path: Path) -> None:
    tokenizer = TextTokenizer(make_tiny_encoder(tmp_path, seed=3) / "tokenizer.json", 64)
    assert tokenizer.measure_unknown_share(["abc дом", "123456"]) == pytest.approx(3 / 12)
    assert tokenizer.measure_unknown_share(["", " \n"]) == 0


def test_a_vocabulary_of_bytes_lacks_nothing(tmp_path: Path) -> None:
    tokenizer = TextTokenizer(make_bytes(tmp_path) / "tokenizer.json", 64)
    assert tokenizer.measure_unknown_share(RUSSIAN) == 0
