"""SMART of the packages that others published, around a stock classifier as their pages show it."""

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig

from benchmarks.contenders.base import Loop
from benchmarks.contenders.hf import classifier
from mtdnn.data.batch import Batch

FIRST_ARGUMENT = {"smart-pytorch": "eval_fn", "vat-pytorch": "model"}
NOISE = 1e-5  # their default


class PackageSmart(Loop):
    """Their SMARTLoss on the embedding block's output, which goes back in as word embeddings.

    :param package: ``smart-pytorch`` or ``vat-pytorch``; ImportError where it is not installed.
    """

    def __init__(self, package: str, config: PretrainedConfig, device: torch.device, *, precision: str):
        super().__init__(classifier(config, device), precision=precision)
        self.module: Any = importlib.import_module(package.replace("-", "_"))
        self.argument = FIRST_ARGUMENT[package]

    def loss(self, batch: Batch) -> Tensor:
        model: Any = self.model

        def logits_of(embed_NTD: Tensor) -> Tensor:
            pooled_ND = model.bert(inputs_embeds=embed_NTD, attention_mask=batch.mask_NT).pooler_output
            logits: Tensor = model.classifier(model.dropout(pooled_ND))
            return logits

        embed_NTD = model.bert.embeddings(batch.inputs_NT["input_ids"])
        logits = logits_of(embed_NTD)
        smart = self.module.SMARTLoss(
            **{self.argument: logits_of}, loss_fn=self.module.kl_loss, loss_last_fn=self.module.sym_kl_loss
        )
        assert batch.targets is not None
        loss: Tensor = F.cross_entropy(logits, batch.targets) + smart(embed_NTD, logits)
        return loss
