"""BERT in plain numpy, for real and for complex numbers.

Devlin et al., 2019, "BERT" (arXiv:1810.04805), section 3, whose layers are those of Vaswani et al., 2017; the names of
the weights are those of ``transformers.BertModel.state_dict()``. There is no dropout. Nothing here conjugates and
nothing takes an absolute value of an activation, so that every output is an analytic function of its inputs and the
complex step differentiates it exactly.
"""

# Shape suffixes: B = token sequences, T = tokens, D = hidden width, N = heads, H = width of a head, C = outputs,
# Q = querying tokens, K = tokens looked at.

import numpy as np
from scipy.special import erf

Array = np.ndarray
Weights = dict[str, Array]


def linear(weights: Weights, name: str, inputs: Array) -> Array:
    """``inputs W^T + b`` of the layer ``name``; also the heads: (B, D) to (B, C).

    :param name: prefix of the two weights ``<name>.weight`` (out, in) and ``<name>.bias`` (out).
    """
    return inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(weights: Weights, name: str, inputs: Array, eps: float) -> Array:
    """Ba et al., 2016, equation 4: over the last axis, with the biased variance and ``eps`` inside the root."""
    centred = inputs - inputs.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(inputs: Array) -> Array:
    """Hendrycks & Gimpel, 2016, equation 1: ``x Phi(x)``, the exact form, not the tanh one."""
    return inputs * 0.5 * (1.0 + erf(inputs / np.sqrt(2.0)))


def embed(
    weights: Weights,
    input_ids_BT: Array,
    token_type_ids_BT: Array,
    eps: float,
    *,
    word_delta_BTD: Array | float = 0.0,
) -> Array:
    """Output (B, T, D) of the embedding block: Devlin et al., 2019, figure 2, then LayerNorm.

    :param word_delta_BTD: what is added to the word embeddings alone, the site ``word``.
    """
    words_BTD = weights["embeddings.word_embeddings.weight"][input_ids_BT] + word_delta_BTD
    return embed_words(weights, words_BTD, token_type_ids_BT, eps)


def embed_words(weights: Weights, words_BTD: Array, token_type_ids_BT: Array, eps: float) -> Array:
    """The embedding block above its word embeddings: segments and positions are added, then LayerNorm."""
    segments_BTD = weights["embeddings.token_type_embeddings.weight"][token_type_ids_BT]
    positions_TD = weights["embeddings.position_embeddings.weight"][: words_BTD.shape[1]]
    return layer_norm(weights, "embeddings.LayerNorm", words_BTD + segments_BTD + positions_TD, eps)


def encode(
    weights: Weights,
    embeddings_BTD: Array,
    mask_BT: Array,
    num_heads: int,
    layer_norm_eps: float,
    *,
    layers: range | None = None,
) -> Array:
    """Hidden states (B, T, D) above the embedding block's output.

    :param mask_BT: 1 at real tokens, 0 at padding; every sequence has a real token.
    :param layers: the layers to apply, all by default; a site in between is two calls with the change added after the
        first.
    """
    assert mask_BT.any(axis=1).all(), "a sequence without a real token has no attention"
    hidden_BTD = embeddings_BTD
    for number in range(num_layers(weights)) if layers is None else layers:
        hidden_BTD = _layer(weights, f"encoder.layer.{number}", hidden_BTD, mask_BT, num_heads, layer_norm_eps)
    return hidden_BTD


def hidden_with(
    weights: Weights,
    input_ids_BT: Array,
    token_type_ids_BT: Array,
    mask_BT: Array,
    num_heads: int,
    eps: float,
    site: str,
    delta_BTD: Array | float,
    *,
    embeddings_BTD: Array | None = None,
) -> Array:
    """Hidden states (B, T, D) of the last layer with ``delta`` added at a site.

    :param eps: of every LayerNorm.
    :param site: ``word``, what leaves the word-embedding table; ``embeddings``, the block's output; ``layer:<r>``, the
        output of the r-th layer, from 1; ``embeddings_twice``, mt-dnn of 2021-02: the block's output plus delta takes
        the place of the word embeddings and goes through the block once more.
    :param embeddings_BTD: the block's unperturbed output where it is not to follow from the weights, as
        ``official-2020-04`` detaches it; not for ``word``.
    """
    if site == "word":
        assert embeddings_BTD is None, "the site 'word' is below the block's output"
        embeddings_BTD = embed(weights, input_ids_BT, token_type_ids_BT, eps, word_delta_BTD=delta_BTD)
        return encode(weights, embeddings_BTD, mask_BT, num_heads, eps)
    if embeddings_BTD is None:
        embeddings_BTD = embed(weights, input_ids_BT, token_type_ids_BT, eps)
    if site == "embeddings":
        return encode(weights, embeddings_BTD + delta_BTD, mask_BT, num_heads, eps)
    if site == "embeddings_twice":
        twice_BTD = embed_words(weights, embeddings_BTD + delta_BTD, token_type_ids_BT, eps)
        return encode(weights, twice_BTD, mask_BT, num_heads, eps)
    name, _, number = site.partition(":")
    assert name == "layer" and 1 <= int(number) <= num_layers(weights), site
    lower_BTD = encode(weights, embeddings_BTD, mask_BT, num_heads, eps, layers=range(int(number)))
    upper = range(int(number), num_layers(weights))
    return encode(weights, lower_BTD + delta_BTD, mask_BT, num_heads, eps, layers=upper)


def num_layers(weights: Weights) -> int:
    """How many encoder layers the weights hold."""
    return len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})


def mean_pool(hidden_BTD: Array, mask_BT: Array) -> Array:
    """Mean over the real tokens: (B, D)."""
    real_BT1 = mask_BT[:, :, None].astype(float)
    return (hidden_BTD * real_BT1).sum(axis=1) / real_BT1.sum(axis=1)


def first_pool(hidden_BTD: Array) -> Array:
    """The first token's hidden state: (B, D)."""
    return hidden_BTD[:, 0]


def native_pool(weights: Weights, hidden_BTD: Array) -> Array:
    """BERT's own pooler, tanh of a linear layer on the first token: (B, D)."""
    return np.tanh(linear(weights, "pooler.dense", first_pool(hidden_BTD)))


def _layer(weights: Weights, name: str, hidden_BTD: Array, mask_BT: Array, num_heads: int, eps: float) -> Array:
    """Vaswani et al., 2017, section 3.1: attention and feed-forward, each with residual, then LayerNorm."""
    context_BTD = _attention(weights, f"{name}.attention.self", hidden_BTD, mask_BT, num_heads)
    attended_BTD = linear(weights, f"{name}.attention.output.dense", context_BTD) + hidden_BTD
    attended_BTD = layer_norm(weights, f"{name}.attention.output.LayerNorm", attended_BTD, eps)
    inner = gelu(linear(weights, f"{name}.intermediate.dense", attended_BTD))
    output_BTD = linear(weights, f"{name}.output.dense", inner) + attended_BTD
    return layer_norm(weights, f"{name}.output.LayerNorm", output_BTD, eps)


def _attention(weights: Weights, name: str, hidden_BTD: Array, mask_BT: Array, num_heads: int) -> Array:
    """Vaswani et al., 2017, equation 1 and section 3.2.2."""
    query_BNTH, key_BNTH, value_BNTH = (
        _split_heads(linear(weights, f"{name}.{part}", hidden_BTD), num_heads) for part in ("query", "key", "value")
    )
    scores_BNQK = np.einsum("bnqh,bnkh->bnqk", query_BNTH, key_BNTH) / np.sqrt(query_BNTH.shape[-1])
    share_BNQK = _masked_softmax(scores_BNQK, mask_BT[:, None, None, :].astype(bool))
    context_BTNH = np.einsum("bnqk,bnkh->bqnh", share_BNQK, value_BNTH)
    return context_BTNH.reshape(hidden_BTD.shape)


def _split_heads(inputs_BTD: Array, num_heads: int) -> Array:
    batch, tokens, width = inputs_BTD.shape
    return inputs_BTD.reshape(batch, tokens, num_heads, width // num_heads).transpose(0, 2, 1, 3)


def _masked_softmax(scores: Array, keep: Array) -> Array:
    """Softmax over the last axis among the kept entries; the others get exactly 0."""
    largest = np.where(keep, scores.real, -np.inf).max(axis=-1, keepdims=True)
    # Masked scores are set to the largest before exp, so that they cannot overflow, and to 0 after it.
    share = np.exp(np.where(keep, scores - largest, 0.0)) * keep
    return share / share.sum(axis=-1, keepdims=True)
