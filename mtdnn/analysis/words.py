"""A vector for every word of some texts, at one site of the encoder.

A word's vector is the mean over its pieces and over the places where it stands [choice; RAPT's tables, whose words are
single pieces, do not say]. Words are cut and spelled as the tokenizer does.

Shape suffixes: N = rows, T = tokens, D = hidden width, W = words.
"""

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtdnn import encoder as enc
from mtdnn.data.batch import pad_rows
from mtdnn.data.tokenize import encode_texts
from mtdnn.errors import EncoderError
from mtdnn.predictor import Predictor

Texts = tuple[str, str | None]
ROWS_AT_ONCE = 128
WORD_STARTS = ("Ġ", "▁")  # how byte-level and sentence pieces mark the start of a word
AROUND_WORDS = string.punctuation + string.whitespace


@dataclass(frozen=True)
class Reading:
    """Tokenised rows, and the word that each token is a piece of ("" at special tokens, padding and punctuation)."""

    inputs_NT: dict[str, Tensor]
    words: Sequence[Sequence[str]]


@dataclass(frozen=True)
class WordTable:
    """The words of some texts and their vectors: (W, D)."""

    words: tuple[str, ...]
    vectors_WD: Tensor

    def without(self, word: str) -> "WordTable":
        kept = [index for index, each in enumerate(self.words) if each != word]
        return WordTable(tuple(self.words[index] for index in kept), self.vectors_WD[kept])


def read(predictor: Predictor, rows: Sequence[Texts]) -> Reading:
    """Tokenise texts (all single or all pairs), truncated at the model's maximal length."""
    encoded = encode_texts(predictor.tokenizer, rows, max_length=predictor.model.config.encoder_max_length)
    if encoded.encodings is None:
        raise EncoderError("this model's tokenizer does not say which word a piece is of; it takes a fast tokenizer")
    types = encoded.get("token_type_ids") or []
    padded = pad_rows(encoded["input_ids"], types, pad_id=predictor.tokenizer.pad_token_id)
    inputs_NT = {name: value.to(predictor.model.device) for name, value in padded.items()}
    words = [token_words(one, texts, predictor.tokenizer) for one, texts in zip(encoded.encodings, rows, strict=True)]
    return Reading(inputs_NT, words)


def token_words(encoding: Any, texts: Texts, tokenizer: Any) -> list[str]:
    """The word that each token is a piece of."""
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    names = list(zip(encoding.sequence_ids, encoding.word_ids, strict=True))
    for name, (start, end) in zip(names, encoding.offsets, strict=True):
        first, _ = spans.get(name, (start, end))
        spans[name] = (first, end)
    found = {}
    for (sequence, word), (start, end) in spans.items():
        text = texts[sequence] if sequence is not None and word is not None else None
        found[sequence, word] = spelled((text or "")[start:end], tokenizer)
    return [found[name] for name in names]


def spelled(word: str, tokenizer: Any) -> str:
    """A word as the tokenizer's normalizer leaves it (lower case in uncased models), without punctuation around it."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    text = normalizer.normalize_str(word) if normalizer is not None else word
    return str(text).strip(AROUND_WORDS + "".join(WORD_STARTS))


def vocabulary_words(tokenizer: Any) -> list[str]:
    """The words that are one piece of the vocabulary, letters only; byte-level ones with the space before them."""
    pieces = sorted(tokenizer.get_vocab())
    marked = [piece for piece in pieces if piece.startswith(WORD_STARTS)]
    texts = [tokenizer.convert_tokens_to_string([piece]) for piece in marked or pieces]
    return [text for text in dict.fromkeys(texts) if text.strip().isalpha()]


@torch.inference_mode()
def word_table(predictor: Predictor, rows: Sequence[Texts], site: str) -> WordTable:
    """The words of ``rows``, in order of first appearance, with their vectors at ``site``."""
    index: dict[str, int] = {}
    batches = list(_read_all(predictor, rows))
    for reading in batches:
        for word in (word for row in reading.words for word in row if word):
            index.setdefault(word, len(index))
    sums_WD = torch.zeros(len(index), predictor.model.width_at(site), device=predictor.model.device)
    counts_W = torch.zeros(len(index), device=predictor.model.device)
    for reading in batches:
        _add(sums_WD, counts_W, reading, hidden_at(predictor, reading, site), index)
    return WordTable(tuple(index), sums_WD / counts_W.unsqueeze(1))


def mean_of_word(reading: Reading, hidden_NTD: Tensor, word: str) -> Tensor:
    """The vector of one word of a reading, given the hidden states: (D,)."""
    places = [(n, t) for n, row in enumerate(reading.words) for t, each in enumerate(row) if each == word]
    return torch.stack([hidden_NTD[place] for place in places]).mean(0)


def hidden_at(predictor: Predictor, reading: Reading, site: str) -> Tensor:
    """The hidden states of a reading at a site: (N, T, D)."""
    record = enc.Record()
    with enc.recording(predictor.model.encoder, [site], record, record.masks):
        enc.encode(predictor.model.encoder, reading.inputs_NT)
    return enc.hidden_of(record.taps[site])


def _read_all(predictor: Predictor, rows: Sequence[Texts]) -> Iterator[Reading]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield read(predictor, rows[start : start + ROWS_AT_ONCE])


def _add(sums_WD: Tensor, counts_W: Tensor, reading: Reading, hidden_NTD: Tensor, index: Mapping[str, int]) -> None:
    """Add a reading's hidden states to the sums of their words."""
    found = [(n, t, index[word]) for n, row in enumerate(reading.words) for t, word in enumerate(row) if word]
    if not found:
        return
    rows, tokens, words = torch.tensor(found, device=sums_WD.device).unbind(1)
    sums_WD.index_add_(0, words, hidden_NTD[rows, tokens].to(sums_WD.dtype))
    counts_W.index_add_(0, words, torch.ones_like(words, dtype=counts_W.dtype))
