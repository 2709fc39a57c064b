"""Passes that can be recorded, resumed and perturbed: what objectives and regularizers need of a model."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mtdnn import encoder as enc
from mtdnn.activation_checkpointing import recomputing
from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs
from mtdnn.dropout import DropoutTape
from mtdnn.errors import ConfigError
from mtdnn.last_layer import can_be_shortened, first_token_alone
from mtdnn.rng import Rng

DropoutMode = Literal["replay", "independent", "off"]


@dataclass(frozen=True)
class Pass:
    """One forward pass: its logits, and what resumed passes need of it.

    :param autocast: whether the encoder ran in the lower precision of an autocast; logits are float32 all the same.
    """

    logits: Tensor
    record: enc.Record = field(default_factory=enc.Record)
    autocast: bool = False

    def hidden(self, site: str) -> Tensor:
        """The recorded hidden states at a site: (N, T, D)."""
        return enc.hidden_of(self.record.taps[site])


class Perturbable(nn.Module):
    """A model over an ``encoder``, called with a batch, whose hidden states can be changed on the way.

    ``MultiTaskModel`` is one; :class:`mtdnn.interop.transformers.LogitsModel` makes one of any other model.

    :ivar activation_checkpointing: the encoder's layers run again in the backward pass instead of keeping what they
        computed: the same bits in less memory and more time.
    :ivar reads_first_token: of the last layer the first token alone is read, unless a batch's task reads all.
    """

    encoder: PreTrainedModel
    activation_checkpointing: bool = False
    reads_first_token: bool = False

    @abstractmethod
    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        """What the logits say about each unit."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The task loss of each unit: (U,)."""

    def reads_first_alone(self, batch: Batch) -> bool:
        """Whether of the last layer the first token alone is read for this batch."""
        return self.reads_first_token

    def width_at(self, site: str) -> int:
        """The width D of the hidden states at a site."""
        known: dict[str, int] = self.__dict__.setdefault("_widths", {})
        if site not in known:
            known[site] = enc.width_at(self.encoder, site)
        return known[site]

    def run(
        self,
        batch: Batch,
        *,
        rng: Rng | None = None,
        sites: Sequence[str] = (),
        dropout: bool = True,
        replay: Pass | None = None,
        site: str = "embeddings",
        delta_NTD: Tensor | None = None,
    ) -> Pass:
        """A pass from the start, with ``delta`` added at ``site`` if there is one.

        :param rng: where dropout masks come from in training mode; without it torch's own dropout runs, unrecorded.
        :param sites: what :meth:`resume` will be asked for.
        :param dropout: False switches dropout off for this pass, whatever the mode.
        :param replay: a pass whose dropout masks are used again.
        """
        tape = DropoutTape(
            rng.generator() if rng else None, replay=replay.record.masks if replay else None, off=not dropout
        )
        recorded = rng is not None or replay is not None or not dropout
        shorten = self.reads_first_alone(batch) and can_be_shortened(self.encoder, [*sites, site])
        record = enc.Record(masks=tape.masks, shortened=replay.record.shortened if replay else shorten)
        taping = tape if recorded else nullcontext()
        recording = enc.recording(self.encoder, sites, record, tape.masks)
        adding = enc.adding(self.encoder, site, delta_NTD)
        with taping, recording, adding, self._running(record.shortened, tape if recorded else None):
            return Pass(self(batch), record, autocast=torch.is_autocast_enabled(batch.mask_NT.device.type))

    def resume(
        self,
        batch: Batch,
        clean: Pass,
        *,
        site: str,
        delta_NTD: Tensor | None,
        dropout: DropoutMode = "replay",
        dtype: torch.dtype | None = None,
        rng: Rng | None = None,
        detach: bool = False,
    ) -> Tensor:
        """Logits of the pass ``clean`` with ``delta`` added at ``site``; what lies below the site is not run again.

        :param dropout: ``replay``: the masks of ``clean``; ``independent``: fresh ones from ``rng``; ``off``: none.
        :param dtype: the precision of this pass, autocast off; None keeps the surrounding one.
        :param detach: what lies at and below the site gets no gradient.
        """
        if dropout == "replay":
            tape = DropoutTape(replay=clean.record.masks[clean.record.taps[site].num_masks :])
        else:
            tape = DropoutTape(rng.generator() if rng else None, off=dropout == "off")
        precise = nullcontext() if dtype is None else torch.autocast(batch.mask_NT.device.type, enabled=False)
        resuming = enc.resuming(self.encoder, clean.record, site, delta_NTD, dtype=dtype, detach=detach)
        with precise, tape, resuming, self._running(clean.record.shortened, tape):
            return cast(Tensor, self(batch))

    def shortening(self) -> AbstractContextManager[None]:
        """While entered, the last layer computes what is read for one vector a row and no more."""
        return self._reading(self.reads_first_token and can_be_shortened(self.encoder, []))

    def _reading(self, shortened: bool) -> AbstractContextManager[None]:
        return first_token_alone(self.encoder) if shortened else nullcontext()

    @contextmanager
    def _running(self, shortened: bool, tape: DropoutTape | None) -> Iterator[None]:
        """While entered, the encoder runs as the options and the pass say."""
        as_a_whole = any(getattr(module, "gradient_checkpointing", False) for module in self.encoder.modules())
        if tape is not None and (self.activation_checkpointing or as_a_whole):
            tape.recomputes_from = math.inf  # layers that run again keep nothing that could be left out
        reading = partial(self._reading, shortened)
        recomputed = recomputing(self.encoder, tape, reading) if self.activation_checkpointing else nullcontext()
        if as_a_whole and tape is not None and self.encoder.training and drops(self.encoder):
            raise ConfigError(
                "transformers' gradient checkpointing draws other dropout masks when a layer runs again: leave it off "
                "and set activation_checkpointing = True on the model that the regularizers see"
            )
        with reading(), recomputed:
            yield


def drops(encoder: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in encoder.modules())
