"""Text to token ids: one tokenizer object a thread at a time, cuts counted, special tokens by template."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from queue import Empty, LifoQueue

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from quarry.errors import ModelError
from quarry.quoting import quote_error

# Its own thread pool would run at the priority of whichever thread came first, and Quarry's workers tokenize
# side by side as it is.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SURROGATES = re.compile("[\ud800-\udfff]")
CHARACTERS_PER_TOKEN = 32
"""A longer text is first cut to this times the wanted tokens; the whole is read if that was too little."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One input of a model.

    Attributes:
        ids: int64, special tokens included.
        types: int64, as many; which text each token belongs to.
        truncated: whether the text was longer than the model reads.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens around one text, or two: ``parts[0] A parts[1] (B parts[2])``.

    Attributes:
        parts: ids before, between and after the texts.
        part_types: their token types, alike.
        text_types: token type of each text.
    """

    parts: tuple[tuple[int, ...], ...]
    part_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(len(part) for part in self.parts)

    def wrap(self, texts: Sequence[Sequence[int]], truncated: bool) -> Tokens:
        """Wraps ``texts``, one or two, each ids without special tokens, as an input."""
        ids, types = list(self.parts[0]), list(self.part_types[0])
        for index, text in enumerate(texts):
            ids += text
            types += [self.text_types[index]] * len(text)
            ids += self.parts[index + 1]
            types += self.part_types[index + 1]
        return Tokens(np.array(ids, dtype=np.int64), np.array(types, dtype=np.int64), truncated)


class TextTokenizer:
    """A fast tokenizer that cuts and frames inputs itself. Callable from any thread.

    A ``tokenizers.Tokenizer`` is not to be shared between threads, so each call borrows one of a pool.
    Batches, even of one, are encoded with ``encode_batch``: it is the call that lets other threads run.
    """

    def __init__(self, file: Path, max_tokens: int) -> None:
        """``file`` is a tokenizer.json. Raises ModelError if it cannot be used for this."""
        try:
            self._source = file.read_text(encoding="utf-8")
            first = _load_tokenizer(self._source)
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(
                f"{file} is no usable tokenizer: {quote_error(error)}", path=str(file)
            ) from error
        self._idle: LifoQueue[Tokenizer] = LifoQueue()
        self._single = _read_template(first, pair=False)
        self._pair = _read_template(first, pair=True)
        self._idle.put(first)
        self.max_tokens = max_tokens
        if max_tokens <= max(self._single.size, self._pair.size) + 1:
            raise ModelError(f"{file} leaves no room for text in {max_tokens} tokens")

    def encode_texts(self, texts: Sequence[str]) -> list[Tokens]:
        """Encodes one text an input, cut at the end."""
        room = self.max_tokens - self._single.size
        return [self._single.wrap([ids[:room]], len(ids) > room) for ids in self._encode_ids(texts, room)]

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Tokens]:
        """Encodes two texts an input; the longer is cut first, as transformers' ``longest_first`` does."""
        room = self.max_tokens - self._pair.size
        distinct = list(dict.fromkeys(text for pair in pairs for text in pair))
        ids_of = dict(zip(distinct, self._encode_ids(distinct, room), strict=True))
        return [self._frame_pair(ids_of[a], ids_of[b], room) for a, b in pairs]

    def list_special_ids(self) -> list[int]:
        """Lists tokens that stand for no text: those of the frame, padding, and what is not known."""
        with self._borrow() as tokenizer:
            added = tokenizer.get_added_tokens_decoder()
        return sorted(number for number, token in added.items() if token.special)

    def measure_unknown_share(self, texts: Sequence[str]) -> float:
        """Measures which share of the texts, in characters that are not white space, 0 to 1, has no token but
        the one for what is not known.

        It is 0 for a vocabulary without such a token, as one of bytes, and for texts without characters.
        """
        with self._borrow() as tokenizer:
            unknown = _find_unknown_id(tokenizer)
            if unknown is None:
                return 0.0
            clean = [replace_surrogates(text) for text in texts]
            encodings = tokenizer.encode_batch(clean, add_special_tokens=False)
        characters = sum(_count_characters(text) for text in clean)
        missed = sum(
            _count_characters(text[start:end])
            for text, encoding in zip(clean, encodings, strict=True)
            for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if id == unknown
        )
        return missed / characters if characters else 0.0

    def find_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Finds (start, end) characters of each token of each text, uncut, without special tokens."""
        with self._borrow() as tokenizer:
            encodings = tokenizer.encode_batch(
                [replace_surrogates(t) for t in texts], add_special_tokens=False
            )
        return [encoding.offsets for encoding in encodings]

    def _frame_pair(self, a: list[int], b: list[int], room: int) -> Tokens:
        if len(a) + len(b) <= room:
            return self._pair.wrap([a, b], False)
        kept_a, kept_b = cut_pair(len(a), len(b), room)
        return self._pair.wrap([a[:kept_a], b[:kept_b]], True)

    def _encode_ids(self, texts: Sequence[str], room: int) -> list[list[int]]:
        """Encodes each text to ids without special tokens: all, or at least ``room + 1`` where there are
        more."""
        clean = [replace_surrogates(text) for text in texts]
        heads = [_cut_head(text, room) for text in clean]
        with self._borrow() as tokenizer:
            found = [encoding.ids for encoding in _encode(tokenizer, heads)]
            short = [i for i, ids in enumerate(found) if len(heads[i]) < len(clean[i]) and len(ids) <= room]
            for i, encoding in zip(short, _encode(tokenizer, [clean[i] for i in short]), strict=True):
                found[i] = encoding.ids
        return found

    @contextmanager
    def _borrow(self) -> Iterator[Tokenizer]:
        try:
            tokenizer = self._idle.get_nowait()
        except Empty:
            tokenizer = _load_tokenizer(self._source)
        try:
            yield tokenizer
        finally:
            self._idle.put(tokenizer)


def cut_pair(a: int, b: int, room: int) -> tuple[int, int]:
    """Cuts texts of ``a`` and ``b`` tokens that are over ``room`` together; returns the tokens to keep of
    each.

    As ``longest_first`` in tokenizers: the shorter one stays whole unless it is over half of the room.
    """
    short = min(a, b)
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if a <= b else (long, short)


def _find_unknown_id(tokenizer: Tokenizer) -> int | None:
    """Finds the token for what is not known. Some models name it by its id, others by its text."""
    model = json.loads(tokenizer.to_str())["model"]
    if (id := model.get("unk_id")) is not None:
        return int(id)
    name = model.get("unk_token")
    return None if name is None else tokenizer.token_to_id(name)


def _count_characters(text: str) -> int:
    return len("".join(text.split()))


def _load_tokenizer(source: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(source)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[Encoding]:
    return tokenizer.encode_batch_fast(texts, add_special_tokens=False) if texts else []


def replace_surrogates(text: str) -> str:
    """Replaces each surrogate, which no encoding has, by U+FFFD, so that offsets stay."""
    return text if text.isascii() else SURROGATES.sub("\ufffd", text)


def _cut_head(text: str, room: int) -> str:
    """Cuts the beginning of a very long text, ending at white space, so that its tokens are those of the
    whole."""
    limit = CHARACTERS_PER_TOKEN * (room + 2)
    if len(text) <= limit:
        return text
    cut = max(text.rfind(" ", 0, limit), text.rfind("\n", 0, limit))
    return text[:cut] if cut > 0 else text


def _read_template(tokenizer: Tokenizer, pair: bool) -> Template:
    """Reads the template off an example; the post-processor's own format differs by model family."""
    example = tokenizer.encode("a b", "a b") if pair else tokenizer.encode("a b")
    texts = 2 if pair else 1
    parts: list[list[int]] = [[] for _ in range(texts + 1)]
    part_types: list[list[int]] = [[] for _ in range(texts + 1)]
    text_types = [0] * texts
    seen = accumulate((-1 if s is None else s for s in example.sequence_ids), max, initial=-1)
    for token, type_id, sequence, last in zip(
        example.ids, example.type_ids, example.sequence_ids, list(seen)[1:], strict=True
    ):
        if sequence is None:
            parts[last + 1].append(token)
            part_types[last + 1].append(type_id)
        else:
            text_types[sequence] = type_id
    template = Template(
        tuple(tuple(part) for part in parts), tuple(tuple(part) for part in part_types), tuple(text_types)
    )
    plain = tokenizer.encode("a b", add_special_tokens=False).ids
    if template.wrap([plain] * texts, False).ids.tolist() != example.ids:
        raise ModelError("the tokenizer does not put its special tokens around the texts")
    return template
