"""A last layer that is computed for its first token alone, where nothing else of it is read.

With the pools ``native`` and ``first`` a model reads one token of the last layer. Its keys and values are needed of all
tokens; its output projection and its feed-forward block, three quarters of its products, of that one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from mtdnn.encoder import layers

# Where attention.output(context, input) begins what a layer does to each token for itself.
FAMILIES = ("bert", "camembert", "deberta-v2", "electra", "roberta", "xlm-roberta")


def can_be_shortened(encoder: PreTrainedModel, sites: Sequence[str]) -> bool:
    """Whether the family is known, and no site is at the last layer, all of whose output it would need."""
    return encoder.config.model_type in FAMILIES and f"layer:{encoder.config.num_hidden_layers}" not in sites


@contextmanager
def first_token_alone(encoder: PreTrainedModel) -> Iterator[None]:
    """While entered, the encoder's last hidden states are those of the first token: (N, 1, D)."""
    last: Any = layers(encoder)[-1]
    handle = last.attention.output.register_forward_pre_hook(lambda _, args: tuple(each[:, :1] for each in args))
    try:
        yield
    finally:
        handle.remove()
