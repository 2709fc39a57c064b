"""One class per pair of texts, reasoned out in several steps: the answer module SAN.

Liu et al., 2019, "MT-DNN", section 3, pairwise text classification; Liu, Duh and Gao, 2018, "Stochastic Answer Networks
for Natural Language Inference". https://arxiv.org/abs/1901.11504, https://arxiv.org/abs/1804.07888

Shape suffixes: N = rows, T = tokens, D = hidden width, K = steps, C = classes.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtdnn.data.batch import Batch
from mtdnn.data.tokenize import Encoded
from mtdnn.data.units import Texts
from mtdnn.heads.base import HEADS, Head, StockHead
from mtdnn.heads.classification import ClassificationHead
from mtdnn.heads.pieces import pieces_of, text_of_tokens


@HEADS.register("san")
class SanHead(ClassificationHead):
    """Several steps of attention to the first text, from a state that begins as a summary of the second.

    With M^a and M^b the last hidden states of both texts' tokens: s^0 = sum_j softmax_j(w_1 M^b_j) M^b_j;
    x^k = sum_j softmax_j(s^k W_2 M^a_j) M^a_j; P^k = softmax(W_3 [s^k; x^k; |s^k - x^k|; s^k x^k]);
    s^(k+1) = GRU(s^k, x^k); the output is the mean of P^0 to P^(K-1). In training a step's prediction is left out of
    the mean with probability ``prediction_dropout``; where all would be, none is [choice: the authors' code keeps one
    at random]. That x^k is read from s^k and not from the state before is the authors' code; the text has no x^0.

    :param steps: K, at least 1.
    :param prediction_dropout: in [0, 1).
    :param dropout: on what W_3 reads, in [0, 1).
    """

    reads_tokens = True
    token_columns = ("text",)
    not_in_a_graph = "a san head reads which text each token is of, which is no input of an ONNX graph"

    def __init__(
        self,
        *,
        hidden_size: int,
        label_words: tuple[tuple[str, ...], ...],
        is_pair: bool = True,
        steps: int = 5,
        prediction_dropout: float = 0.1,
        dropout: float = 0.1,
    ):
        super().__init__(hidden_size=4 * hidden_size, label_words=label_words, dropout=dropout)
        if not is_pair:
            raise ValueError("the answer module SAN reads a pair of texts; name inputs.text_b, or leave head.type out")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.steps = steps
        self.prediction_dropout = nn.Dropout(prediction_dropout)
        self.first_attention = nn.Linear(hidden_size, 1, bias=False)
        self.attention = nn.Linear(hidden_size, hidden_size, bias=False)
        self.cell = GatedCell(hidden_size)

    def columns(self, encoded: Encoded, texts: Sequence[Texts]) -> dict[str, list[list[int]]]:
        return {"text": [text_of_tokens(piece) for piece in pieces_of(encoded)]}

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Log-probabilities but for a constant: (N, C)."""
        text_NT = batch.tokens_NT["text"]
        state_ND = attended(self.first_attention(hidden).squeeze(-1), hidden, text_NT == 1)
        found = []
        for _ in range(self.steps):
            scores_NT = (hidden @ self.attention(state_ND).unsqueeze(-1)).squeeze(-1)
            read_ND = attended(scores_NT, hidden, text_NT == 0)
            both = [state_ND, read_ND, (state_ND - read_ND).abs(), state_ND * read_ND]
            found.append(F.log_softmax(self.output(self.dropout(torch.cat(both, -1))), -1))
            state_ND = self.cell(read_ND, state_ND)
        return self.averaged(torch.stack(found, 1))

    def averaged(self, log_probs_NKC: Tensor) -> Tensor:
        """The logarithm of the sum of the steps' probabilities, but for those that are left out: (N, C)."""
        kept_NK = self.prediction_dropout(torch.ones_like(log_probs_NKC[..., 0])) > 0
        kept_NK = kept_NK | ~kept_NK.any(1, keepdim=True)
        lowest = torch.finfo(log_probs_NKC.dtype).min
        return log_probs_NKC.masked_fill(~kept_NK.unsqueeze(-1), lowest).logsumexp(1)

    def as_stock(self) -> StockHead:
        return Head.as_stock(self)  # not the classifier's: its layer reads four vectors

    @torch.no_grad()
    def copy_from(self, other: Head, mapping: Mapping[str, str]) -> None:
        if not isinstance(other, SanHead):
            raise ValueError(f"a SAN answer module cannot start from a {type(other).__name__}")
        super().copy_from(other, mapping)
        for name in ("first_attention", "attention", "cell"):
            getattr(self, name).load_state_dict(getattr(other, name).state_dict())


class GatedCell(nn.Module):
    """A gated recurrent unit (Cho et al., 2014), as ``torch.nn.GRUCell`` but of linear layers, which a seed resets."""

    def __init__(self, width: int):
        super().__init__()
        self.of_input = nn.Linear(width, 3 * width)
        self.of_state = nn.Linear(width, 3 * width)

    def forward(self, input_ND: Tensor, state_ND: Tensor) -> Tensor:
        """The next state: (N, D)."""
        reset_in, update_in, new_in = self.of_input(input_ND).chunk(3, -1)
        reset, update, new = self.of_state(state_ND).chunk(3, -1)
        update = torch.sigmoid(update_in + update)
        new = torch.tanh(new_in + torch.sigmoid(reset_in + reset) * new)
        return (1 - update) * new + update * state_ND


def attended(scores_NT: Tensor, hidden_NTD: Tensor, mine_NT: Tensor) -> Tensor:
    """The mean of one text's hidden states, weighted by the softmax of their scores: (N, D)."""
    lowest = torch.finfo(scores_NT.dtype).min
    weights_NT = scores_NT.masked_fill(~mine_NT, lowest).softmax(-1)
    return (weights_NT.unsqueeze(1) @ hidden_NTD).squeeze(1)
