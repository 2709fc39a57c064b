"""A tiny random encoder and its tokenizer, for tests and for trying the machinery without any download."""

import re
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from mtdnn.encoder import Pool
from mtdnn.model import MultiTaskModel, make_config
from mtdnn.tasks import TaskDef
from mtdnn.testing import corpus

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROWS_PER_CORPUS = 200


@lru_cache
def vocabulary() -> dict[str, int]:
    """Special tokens, every character (so that any English word can be spelled), and the words of the corpora."""
    words: set[str] = set()
    for name in corpus.CORPORA:
        for row in corpus.rows(name, "train", size=ROWS_PER_CORPUS):
            texts = [value for key, value in row.items() if isinstance(value, str) and key not in ("uid", "label")]
            words.update(re.findall(r"[a-z]+", " ".join(texts).casefold()))
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*SPECIAL.values(), *characters, *(f"##{each}" for each in characters), *sorted(words - set(characters))]
    return {piece: index for index, piece in enumerate(pieces)}


def tiny_tokenizer() -> Any:
    """BERT's way of splitting words over :func:`vocabulary`."""
    vocab = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **SPECIAL)


def tiny_config(**changes: Any) -> BertConfig:
    """Two layers of 32, about 60 thousand parameters."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertConfig(**{"vocab_size": len(vocabulary()), "max_position_embeddings": 512, **sizes, **changes})


def tiny_model(
    tasks: Sequence[TaskDef], *, seed: int = 0, pool: Pool = "mean", max_length: int = 128, **changes: Any
) -> MultiTaskModel:
    """A model with a random encoder that depends on ``seed`` alone."""
    model = MultiTaskModel(make_config(tiny_config(**changes), tasks, pool=pool, max_length=max_length))
    model.reset_all(seed=seed)
    return model
