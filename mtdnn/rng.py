"""Random numbers by name: every draw is a function of (seed, step, micro-step, name), so that no state is kept.

Noise is keyed by row, so that padding, the order of a batch, the number of processes and resuming do not change it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rng:
    """The source of randomness of one micro-batch.

    :param rank: of the process, where several share a batch: each draws dropout masks of its own.
    """

    key: str
    rank: int = 0

    def at(self, *parts: object) -> "Rng":
        """The source named below this one."""
        return replace(self, key="/".join([self.key, *map(str, parts)]))

    def generator(self) -> torch.Generator:
        key = f"{self.key}/rank {self.rank}" if self.rank else self.key
        return torch.Generator().manual_seed(seed_of(key))

    def normal_NTD(self, row_names: Sequence[str], mask_NT: Tensor, width: int, *, dtype: torch.dtype) -> Tensor:
        """Standard normal noise at real tokens and zero at padding, on the mask's device: (N, T, width)."""
        return self._draw_NTD(torch.randn, row_names, mask_NT, width, dtype)

    def uniform_NTD(self, row_names: Sequence[str], mask_NT: Tensor, width: int, *, dtype: torch.dtype) -> Tensor:
        """Uniform noise in [-1, 1) at real tokens and zero at padding, on the mask's device: (N, T, width)."""
        return self._draw_NTD(uniform, row_names, mask_NT, width, dtype)

    def _draw_NTD(
        self,
        draw: Callable[..., Tensor],
        row_names: Sequence[str],
        mask_NT: Tensor,
        width: int,
        dtype: torch.dtype,
    ) -> Tensor:
        noise_NTD = torch.zeros(*mask_NT.shape, width, dtype=torch.float32)
        generator = torch.Generator()
        for row, (name, length) in enumerate(zip(row_names, mask_NT.sum(1).tolist(), strict=True)):
            generator.manual_seed(seed_of(f"{self.key}/{name}"))
            noise_NTD[row, :length] = draw(length, width, generator=generator)
        return noise_NTD.to(device=mask_NT.device, dtype=dtype)


def uniform(*shape: int, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.rand(*shape, generator=generator) - 1.0


def seed_of(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "big")
