"""The official MT-DNN code (GitHub namisan/mt-dnn), from a checkout that the user names."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, PretrainedConfig

from benchmarks.contenders.base import LEARNING_RATE, MAX_NORM, Training
from benchmarks.contenders.packages import NOISE
from mtdnn.data.batch import Batch

NAME = "official SMART"
UNUSED: Mapping[str, Sequence[str]] = {
    "pytorch_pretrained_bert": ["BertAdam"],
    "pytorch_pretrained_bert.modeling": ["BertConfig", "BertEmbeddings", "BertLayerNorm"],
    "pytorch_pretrained_bert.optimization": ["warmup_constant", "warmup_cosine", "warmup_linear"],
    "seqeval": [],
    "seqeval.metrics": ["classification_report"],
    "imp": [],
}
# The defaults of their train.py, but for SMART, a linear head (answer_opt) and a learning rate that stays what it is
# (scheduler_type), as all contenders have. Some are read by newer versions only.
OPTIONS: Mapping[str, Any] = {
    "adv_alpha": 1,
    "adv_epsilon": 1e-6,
    "adv_k": 1,
    "adv_noise_var": NOISE,
    "adv_norm_level": 0,
    "adv_p_norm": "inf",
    "adv_step_size": 1e-5,
    "adv_train": True,
    "answer_opt": 0,
    "bin_on": False,
    "deepspeed": False,
    "dropout_p": 0.1,
    "fp16": False,
    "global_grad_clipping": MAX_NORM,
    "grad_clipping": 0,
    "learning_rate": LEARNING_RATE,
    "local_rank": -1,
    "multi_gpu_on": False,
    "optimizer": "adamax",
    "pooler_actf": "tanh",
    "scheduler_type": 2,
    "update_bert_opt": 0,
    "vb_dropout": True,
    "warmup": 0.1,
    "warmup_schedule": "warmup_linear",
    "weight_decay": 0,
}


def checkout(text: str) -> Path:
    """The folder of a checkout, as argparse's ``type``."""
    folder = Path(text)
    if not (folder / "mt_dnn").is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} has no folder mt_dnn: name a checkout of GitHub's namisan/mt-dnn")
    return folder


def module_of(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


def stand_ins() -> dict[str, ModuleType]:
    """What their imports need to succeed; nothing of it but BERT's classes is used by a step."""
    missing = {
        name: module_of(name, **dict.fromkeys(names))
        for name, names in UNUSED.items()
        if find_spec(name.partition(".")[0]) is None
    }
    classes = {"bert": (BertConfig, BertModel, None)}
    return missing | {"pretrained_models": module_of("pretrained_models", MODEL_CLASSES=classes)}


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Inside, modules of the checkout come first; what stands in for others is gone again afterwards."""
    standing_in = stand_ins()
    sys.modules.update(standing_in)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in standing_in:
            del sys.modules[name]


def in_their_places(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The network as SMART calls it: what follows the task is ``fwd_type`` and ``embed``."""

    def call(*given: Any) -> Tensor:
        return network(*given[:6], **dict(zip(("fwd_type", "embed"), given[6:], strict=False)))

    return call


class Task(dict[str, Any]):
    """A task's definition with attributes, as theirs is: a dict, for transformers shows the configuration as JSON."""

    def __init__(self, **attributes: Any):
        super().__init__()
        vars(self).update(attributes)


class Official(Training):
    """Their ``MTDNNModel.update`` with SMART: network, losses, clipping and optimizer are those of the checkout.

    No file is changed. Mended at run time:

    - ``pytorch_pretrained_bert``, ``seqeval`` and ``imp`` are imported for what a step does not use. Where they are
      not installed, empty modules stand in for them.
    - ``pretrained_models.py`` imports all of transformers with a star: half a minute with transformers 5, and an error
      where it dropped a name. A table with BERT's classes stands in for it.
    - ``SmartPerturbation`` gives the network ``fwd_type`` and ``embed`` by position, where since 2021 it takes
      ``y_input_ids`` first: every step with SMART failed. They are passed by name.
    - A model is made from a configuration only along with a state to load; an empty one is given. Without
      ``init_checkpoint`` no tokenizer is looked for on the hub.

    :param folder: of the checkout; the first one that a process imports stays.
    """

    def __init__(self, folder: Path, config: PretrainedConfig, device: torch.device):
        with importable(folder):
            theirs: Any = import_module("mt_dnn.model")
        self.task_type = theirs.TaskType.Classification
        task = Task(
            task_type=self.task_type,
            n_class=config.num_labels,
            enable_san=False,
            dropout_p=OPTIONS["dropout_p"],
            actf=OPTIONS["pooler_actf"],
            loss=theirs.LossCriterion.CeCriterion,
            adv_loss=theirs.LossCriterion.SymKlCriterion,
        )
        options = {**config.to_dict(), **OPTIONS, "encoder_type": theirs.EncoderModelType.BERT, "task_def_list": [task]}
        options["cuda"] = device.type == "cuda"
        self.model = theirs.MTDNNModel(options, device=device, state_dict={"state": {}})
        self.model.mnetwork = in_their_places(self.model.network)

    def step(self, batch: Batch) -> None:
        inputs = [batch.inputs_NT[name] for name in ("input_ids", "token_type_ids", "attention_mask")]
        places = {"task_id": 0, "token_id": 0, "input_len": len(inputs), "label": len(inputs)}
        self.model.update({**places, "task_def": {"task_type": self.task_type}}, [*inputs, batch.targets])
