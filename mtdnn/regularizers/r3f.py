"""Random noise on the word embeddings, without ascent and without normalisation.

Aghajanyan et al., 2020, "Better Fine-Tuning by Reducing Representational Collapse", equation 6 (R3F).
https://arxiv.org/abs/2008.03156
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mtdnn.data.batch import Batch
from mtdnn.passes import DropoutMode, Pass, Perturbable
from mtdnn.perturbation import row_rms
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.perturbing import Perturbation, Perturbing, wide
from mtdnn.rng import Rng


@REGULARIZERS.register("r3f")
@dataclass(frozen=True, kw_only=True)
class R3f(Perturbing):
    """Penalize the symmetric KL between the outputs with and without noise on the embeddings.

    lambda [KL(f(x) || f(x + z)) + KL(f(x + z) || f(x))], z ~ N(0, sigma^2 I) or U(-sigma, sigma); numbers take the
    squared difference.

    :param weight: lambda, at least 0.
    :param noise: ``normal`` or ``uniform``.
    :param noise_std: sigma, above 0: the deviation of normal noise, the largest entry of uniform noise.
    :param scale: of sigma: ``absolute``, or ``rms``: times the root mean square of the row's hidden states [choice].
    :param site: ``word``, ``embeddings`` or ``layer:<r>``.
    :param dropout: of the noisy pass: ``independent`` masks, as in fairseq, ``replay`` or ``off``.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"noise": "uniform", "noise_std": 1e-5}}
    NOTES: ClassVar[Mapping[str, str]] = {
        "paper": "At sigma 1e-5 the noise moves nothing that can be measured: what is penalized is the difference of "
        "two dropout masks, so that this is R-Drop with the loss taken once."
    }
    COST = "one forward and one backward pass"
    divergence = "symmetric_kl"
    stop_gradient = "none"
    climbs = False

    weight: float = 1.0
    noise: Literal["normal", "uniform"] = "uniform"
    noise_std: float = 1e-5
    scale: Literal["absolute", "rms"] = "absolute"
    site: str = "word"
    dropout: DropoutMode = "independent"

    def __post_init__(self) -> None:
        if self.weight < 0 or not self.noise_std > 0:
            raise ValueError(f"weight must be at least 0 and noise_std above 0, got {self.weight} and {self.noise_std}")

    @property
    def sites(self) -> tuple[str, ...]:
        return (self.site,)

    def perturbation(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Perturbation:
        hidden_NTD = wide(clean.hidden(self.site).detach())
        source = rng.at("noise")
        draw = source.normal_NTD if self.noise == "normal" else source.uniform_NTD
        noise_NTD = draw(batch.row_names, batch.mask_NT, hidden_NTD.shape[-1], dtype=hidden_NTD.dtype)
        size = row_rms(hidden_NTD, batch.mask_NT) if self.scale == "rms" else 1.0
        return Perturbation(self.site, self.noise_std * size * noise_NTD)
