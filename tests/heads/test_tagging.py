"""Tagging: one label a word, whatever its pieces; the loss and its distributions against a float64 reference."""

import pytest
import torch
from heads.token_rows import batch_of, split_of, units_of
from reference import token_heads
from support import TAG, TOY_TOKENS, toy_batch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mtdnn.data.tokenize import encode_whole
from mtdnn.errors import ConfigError, DataError
from mtdnn.heads.base import build_head
from mtdnn.heads.pieces import first_pieces
from mtdnn.testing.encoders import tiny_tokenizer

ROWS = [
    {"a": "Anna bought the zzzbicycle", "label": ["B-X", "O", "O", "I-X"]},
    {"a": ["In", "Paris", "."], "label": "O B-X O"},
]


def logits_of(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch.mask_NT.shape, 3, generator=generator, dtype=torch.float64)


def test_texts_and_lists_of_words_are_the_same(tmp_path):
    first, second = units_of(tmp_path, TAG, ROWS)
    assert first.texts == [("Anna bought the zzzbicycle", None)]
    assert second.texts == [("In Paris .", None)]
    assert (first.targets, second.targets) == ([1, 0, 0, 2], [0, 1, 0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": "two words", "label": ["O"]}, "train.jsonl:1: column 'label': 1 labels for 2 words"),
        ({"a": "two words", "label": ["O", "B-Y"]}, r"train.jsonl:1: column 'label': unknown label 'B-Y'. Did you"),
        ({"a": "two words", "label": 3}, "train.jsonl:1: column 'label': expected a list of labels, one a word, got 3"),
        ({"a": ["two words"], "label": ["O"]}, "column 'a': expected words without white space, got 'two words'"),
        ({"a": ["one", ""], "label": ["O", "O"]}, "column 'a': expected words without white space, got ''"),
        ({"a": [], "label": []}, "column 'a': empty text ''"),
        ({"a": 7, "label": []}, "column 'a': expected text, got 7"),
    ],
)
def test_a_bad_row_is_named_with_its_column_and_value(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        units_of(tmp_path, TAG, [row])


def test_a_label_stands_at_the_first_piece_of_its_word(tmp_path):
    batch = batch_of(tmp_path, TAG, ROWS)
    pieces = [tiny_tokenizer().convert_ids_to_tokens(row) for row in batch.inputs_NT["input_ids"]]
    words = batch.tokens_NT["word"].tolist()
    rows = [zip(*row, strict=True) for row in zip(pieces, words, strict=True)]
    first = [[(piece, word) for piece, word in row if word >= 0] for row in rows]
    assert first == [[("anna", 0), ("bought", 1), ("the", 2), ("z", 3)], [("in", 0), ("paris", 1), (".", 2)]]
    assert batch.targets.tolist() == [[1, 0, 0, 2], [0, 1, 0, -1]]
    assert batch.texts == [[["Anna bought the zzzbicycle", None]], [["In Paris .", None]]]


def byte_level():
    """Pieces that begin with the space before them, as GPT-2's; their offsets count it."""
    names = [*pre_tokenizers.ByteLevel.alphabet(), "Ġb", "Ġba", "<pad>"]
    bpe = models.BPE({name: number for number, name in enumerate(names)}, [("Ġ", "b"), ("Ġb", "a")])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def test_a_piece_that_counts_the_space_before_a_word_is_the_word_s():
    (piece,) = encode_whole(byte_level(), [("ab bab  c", None)], max_length=20).pieces
    assert piece.tokens == ["a", "b", "Ġba", "b", "Ġ", "Ġ", "c"]
    assert piece.offsets[2] == (2, 5)
    assert first_pieces(piece, "ab bab  c") == [0, -1, 1, -1, -1, -1, 2]


def test_words_that_are_cut_off_are_predicted_o_and_count_as_missed(tmp_path):
    batch = batch_of(tmp_path, TAG, ROWS, max_length=4)
    head = build_head(TAG)
    logits = torch.zeros(2, 4, 3)
    logits[..., 1] = 1.0
    assert batch.tokens_NT["word"].tolist() == [[-1, 0, 1, -1], [-1, 0, 1, -1]]
    assert head.decode(logits, batch) == [["B-X", "B-X", "O", "O"], ["B-X", "B-X", "O"]]
    assert split_of(tmp_path, TAG, ROWS, max_length=4).facts.truncated == 2


def test_the_loss_is_the_mean_over_a_sentence_s_words():
    batch = toy_batch("tag")
    expected = token_heads.tagging_loss_U(
        logits_of(batch).numpy(), batch.tokens_NT["word"].numpy(), [[0, 1], [2], [1, 2]]
    )
    found = build_head(TAG).loss(logits_of(batch), batch)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-12, atol=0)


def test_other_pieces_and_padding_have_no_gradient():
    batch = toy_batch("tag")
    logits = logits_of(batch).requires_grad_()
    build_head(TAG).loss(logits, batch).sum().backward()
    assert ((logits.grad != 0).any(-1) == (batch.tokens_NT["word"] >= 0)).all()


def test_a_sentence_is_told_word_by_word_with_its_entities():
    batch, head = toy_batch("tag"), build_head(TAG)
    labels = [[1, 2], [0], [0, 1]]
    logits = torch.zeros(*batch.mask_NT.shape, 3)
    for row, words in enumerate(TOY_TOKENS["tag"]["word"]):
        for token, word in enumerate(words):
            logits[row, token, labels[row][word] if word >= 0 else 2] = 1.0
    told = head.describe(logits, batch)
    assert told[0] == {
        "words": ["red", "cat"],
        "labels": ["B-X", "I-X"],
        "entities": [{"type": "X", "text": "red cat", "start": 0, "stop": 2}],
    }
    assert told[1]["entities"] == []
    assert told[2]["labels"] == ["O", "B-X", "O"]  # the third word has no token
    assert head.gold([1.0, 2.0, 0.0]) == ["B-X", "I-X", "O"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["O", "PER"], "takes IOB2 labels.*of which \\['PER'\\] are none"),
        (["O", "B-PER", "E-PER", "S-PER"], r"of which \['E-PER', 'S-PER'\] are none; convert IO and BIOES"),
        (["O", "I-PER"], r"of which \['I-PER'\] are none"),
        (["B-PER", "I-PER"], "takes IOB2 labels"),
        ([], "takes IOB2 labels"),
    ],
)
def test_labels_of_another_scheme_are_refused(labels, message):
    with pytest.raises(ConfigError, match=message):
        build_head(TAG.model_copy(update={"labels": labels}))


def test_a_pair_of_texts_is_refused():
    pair = TAG.inputs.model_copy(update={"text_b": "b"})
    with pytest.raises(ConfigError, match="the words of one text"):
        build_head(TAG.model_copy(update={"inputs": pair}))


def test_a_fresh_tagger_can_start_from_another_tasks():
    head = build_head(TAG, hidden_size=8)
    other = build_head(TAG.model_copy(update={"labels": ["B-Y", "O", "I-Y"]}), hidden_size=8)
    other.copy_from(head, {"B-Y": "B-X", "I-Y": "I-X"})
    torch.testing.assert_close(other.output.weight, head.output.weight[[1, 0, 2]])
