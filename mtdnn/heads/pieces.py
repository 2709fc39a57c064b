"""Where tokens stand in their texts, as a fast tokenizer tells it."""

from collections.abc import Sequence
from typing import Any

from mtdnn.data.tokenize import Encoded
from mtdnn.errors import EncoderError


def pieces_of(encoded: Encoded) -> Sequence[Any]:
    """What the tokenizer tells of each row's tokens.

    :raises EncoderError: where it is not a fast one and tells nothing.
    """
    if encoded.pieces is None:
        raise EncoderError(
            "this encoder's tokenizer does not say where a token stands in its text; heads that read tokens take a "
            "fast tokenizer (tokenizer.json)"
        )
    return encoded.pieces


def text_of_tokens(piece: Any) -> list[int]:
    """Which of both texts each token of a row is of, 0 or 1; -1 at special tokens."""
    return [-1 if sequence is None else sequence for sequence in piece.sequence_ids]


def first_pieces(piece: Any, text: str) -> list[int]:
    """The word, counted at white space, whose first piece each token is; -1 at every other token.

    A piece belongs to the word of its last character: some tokenizers count the space before a word to its piece.
    """
    words, number = [], -1
    for place, character in enumerate(text):
        if character.isspace():
            words.append(-1)
        else:
            number += place == 0 or text[place - 1].isspace()
            words.append(number)
    found, last = [], -1
    for sequence, (start, end) in zip(piece.sequence_ids, piece.offsets, strict=True):
        word = words[end - 1] if sequence == 0 and end > start else -1
        found.append(word if word > last else -1)
        last = max(last, word)
    return found


def characters(piece: Any, *, text: int) -> tuple[list[int], list[int]]:
    """Where each token of one of both texts begins and ends in it, end excluded; -1 at every other token."""
    placed = [
        (start, end) if sequence == text and end > start else (-1, -1)
        for sequence, (start, end) in zip(piece.sequence_ids, piece.offsets, strict=True)
    ]
    return [start for start, _ in placed], [end for _, end in placed]
