"""What is known of families of encoders: how each one's stock classifier is built, and which cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from mtdnn.errors import EncoderError

OWN_TYPE = "mtdnn"


@dataclass(frozen=True)
class StockClassifier:
    """How a family's sequence classifier in transformers turns the first token into logits.

    :param activation: between its dense layer and its last one.
    :param dense: the dense layer's name in it.
    :param output: the last layer's name in it.
    :param dropout_before: whether there is dropout before the dense layer.
    :param norm: the name of a layer norm after the activation; the dense layer then has no bias.
    :param options: of its configuration, which make it so.
    """

    activation: str
    dense: str
    output: str = "classifier"
    dropout_before: bool = False
    norm: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def _head(activation: str) -> StockClassifier:
    return StockClassifier(activation, "classifier.dense", "classifier.out_proj", dropout_before=True)


CLS_POOLING = {"classifier_pooling": "cls", "classifier_activation": "gelu", "classifier_bias": False}
STOCK: dict[str, StockClassifier] = {
    "albert": StockClassifier("tanh", "albert.pooler"),
    "bert": StockClassifier("tanh", "bert.pooler.dense"),
    "camembert": _head("tanh"),
    "deberta-v2": StockClassifier("gelu", "pooler.dense", dropout_before=True, options={"pooler_hidden_act": "gelu"}),
    "distilbert": StockClassifier("relu", "pre_classifier"),
    "electra": _head("gelu"),
    "modernbert": StockClassifier("gelu", "head.dense", norm="head.norm", options=CLS_POOLING),
    "mpnet": _head("tanh"),
    "roberta": _head("tanh"),
    "xlm-roberta": _head("tanh"),
}


def check_usable(config: PretrainedConfig, *, where: str) -> None:
    """That the architecture is an encoder alone, in which every token sees every other.

    :raises EncoderError: with what it is instead.
    """
    kind = config.model_type
    if kind == OWN_TYPE:
        raise EncoderError(f"{where} is a multi-task model, not an encoder; load it with load_model")
    if getattr(config, "is_encoder_decoder", False):
        raise EncoderError(f"{where} is a {kind} model, an encoder with a decoder; take an encoder alone, such as BERT")
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if causal or getattr(config, "is_decoder", False):
        raise EncoderError(
            f"{where} is a {kind} model, whose tokens see only those before them; take an encoder, such as BERT"
        )
