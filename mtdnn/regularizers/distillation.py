"""Knowledge distillation from one or several trained models, the teachers (MT-DNN-KD).

Liu et al., 2019, "Improving Multi-Task Deep Neural Networks via Knowledge Distillation", section 3 and figure 2.
https://arxiv.org/abs/1904.09482. The temperature: Hinton et al., 2015, https://arxiv.org/abs/1503.02531, section 2.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs, divergence
from mtdnn.encoder import encoder_folder
from mtdnn.errors import CheckpointError, ConfigError, MtdnnError
from mtdnn.files import content_hash
from mtdnn.model import MultiTaskModel, check_labels, check_token_ids, load_model, require_model, saved_config
from mtdnn.passes import Pass, Perturbable
from mtdnn.regularizers.base import REGULARIZERS, Regularizer
from mtdnn.rng import Rng
from mtdnn.tasks import TaskDef

WHERE = "distillation.teachers"


@REGULARIZERS.register("distillation")
class Distillation(Regularizer):
    """Learn from the soft labels of teachers beside the hard labels.

    S = T^2 KL(mean over the teachers of softmax(z / T) || softmax(student's z / T)), mean over units; numbers take the
    squared difference from the mean of the teachers' scores. A task that no teacher has a head for gets no term.

    :param teachers: model folders of ours, at least one; all with this encoder's tokenizer and ``max_length``, and for
        each task that they share with the stage the same kind and labels in the same order.
    :param weight: lambda, at least 0; in the form ``mean`` at most 1.
    :param temperature: T, above 0; at 1 the probabilities as they are. Numbers have none.
    :param form: ``sum``: L + lambda S. ``mean``: (1 - lambda) L + lambda S, L being the clean pass's task loss; the
        penalty is then lambda (S - L) and may be negative.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"form": "mean", "weight": 0.5},
        "official": {"form": "sum", "weight": 1.0},
    }
    NOTES: ClassVar[Mapping[str, str]] = {
        "paper": "The average of the losses on the correct and on the soft targets. The paper has the cross-entropy "
        "with the soft targets, which is our KL plus their entropy: the same gradient. Its soft targets are computed "
        "once; ours are computed for each batch, without dropout.",
        "official": "The authors' code adds the KL to the task loss: twice the paper's objective. It does so in "
        "classification alone.",
    }
    COST = "one forward pass of each teacher beside the clean pass, and the teachers' weights"

    def __init__(
        self,
        *,
        teachers: list[str],
        weight: float = 1.0,
        temperature: float = 1.0,
        form: Literal["sum", "mean"] = "sum",
    ):
        if not teachers or len(set(teachers)) < len(teachers):
            raise ValueError(f"teachers: name at least one model folder, and each once, got {teachers}")
        if weight < 0 or (form == "mean" and weight > 1):
            raise ValueError(f"weight must be at least 0, and in the form mean at most 1, got {weight}")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.teachers, self.weight, self.temperature, self.form = list(teachers), weight, temperature, form
        self._models: list[MultiTaskModel] = []
        self._content: dict[str, str] = {}
        self._untaught: list[str] = []
        self._wanted: set[str] | None = None  # the tasks that the term was checked for

    def content(self) -> dict[str, str]:
        """The hash of each teacher's configuration and weights.

        :raises CheckpointError: when a folder holds no model.
        """
        try:
            return {path: model_content(folder) for path, folder in self._folders()}
        except CheckpointError as error:
            raise CheckpointError(f"{WHERE}: {error}") from error

    def check(self, tasks: Sequence[TaskDef], tokenizer: Any, *, max_length: int) -> None:
        known: dict[str, list[TaskDef]] = {}
        self._wanted = {task.name for task in tasks}
        for path, folder in self._folders():
            config, known[path] = saved_config(folder)
            check_token_ids(config, tokenizer, max_length=max_length, where=f"{WHERE}: {path}")
        check_teachers(known, tasks)

    def begin(self, model: Perturbable, *, num_steps: int) -> None:
        if not isinstance(model, MultiTaskModel):
            raise ConfigError(
                "distillation: teachers are known by the tasks of a multi-task model of ours; here is none"
            )
        like = next(model.parameters())
        self._content = self.content()
        self._models = [frozen(load_model(folder), like=like) for _, folder in self._folders()]
        models = zip(self.teachers, self._models, strict=True)
        known = {path: list(each.task_defs.values()) for path, each in models}
        wanted = model.task_defs if self._wanted is None else self._wanted
        self._untaught = check_teachers(known, [task for name, task in model.task_defs.items() if name in wanted])

    def doubts(self) -> list[str]:
        if not self._untaught:
            return []
        return [f"distillation: no teacher has a head for {', '.join(self._untaught)}, which gets no term"]

    def penalty(self, model: Perturbable, batch: Batch, clean: Pass, rng: Rng) -> Tensor:
        assert self._models, "begin() loads the teachers"
        teachers = [each for each in self._models if batch.task in each.task_defs]
        if not teachers:
            return clean.logits.new_zeros(())
        with torch.no_grad():
            soft = average([self._soft(each, each.run(batch).logits, batch) for each in teachers])
        values_U = divergence(soft, self._soft(model, clean.logits, batch), form="kl")
        if soft.values_U is None:
            values_U = self.temperature**2 * values_U
        if self.form == "mean":
            values_U = values_U - model.loss(clean.logits, batch)
        return self.weight * values_U.mean()

    def _folders(self) -> list[tuple[str, Path]]:
        """Each teacher's folder: a path, or ``package:<package>/<folder>``."""
        return [(path, Path(encoder_folder(path))) for path in self.teachers]

    def _soft(self, model: Perturbable, logits: Tensor, batch: Batch) -> Outputs:
        return soften(model.outputs(logits, batch), temperature=self.temperature)

    def state_dict(self) -> dict[str, Tensor]:
        """Which teachers they are; their weights do not change."""
        return {
            f"teacher.{index}": torch.tensor(list(bytes.fromhex(content)), dtype=torch.uint8)
            for index, content in enumerate(self._content.values())
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the same teachers.

        :raises CheckpointError: when a folder holds another model than when the run began.
        """
        saved = [bytes(value.tolist()).hex() for _, value in sorted(state.items())]
        here = list(self._content.values())
        if saved and sorted(saved) != sorted(here):
            raise CheckpointError(
                f"{WHERE}: the run began with models of the content {told(saved)}, and in {', '.join(self.teachers)} "
                f"is {told(here)}; restore them, or give another --out"
            )


def frozen(model: MultiTaskModel, *, like: Tensor) -> MultiTaskModel:
    """A model that is not trained and has no dropout, on the device and in the precision of ``like``."""
    moved: Any = model.to(device=like.device, dtype=like.dtype)  # type: ignore[call-arg]
    return cast(MultiTaskModel, moved.requires_grad_(False).eval())


def model_content(folder: Path) -> str:
    """SHA-256 over a model's configuration and weights."""
    require_model(folder)
    return content_hash([folder / "config.json", *sorted(folder.glob("*.safetensors"))])


def check_teachers(known: Mapping[str, Sequence[TaskDef]], tasks: Sequence[TaskDef]) -> list[str]:
    """The tasks that no teacher has a head for.

    :param known: the tasks of each teacher.
    :raises CheckpointError: when a teacher has a task with other labels.
    :raises ConfigError: when no teacher has any of the tasks.
    """
    taught: set[str] = set()
    for path, definitions in known.items():
        saved = {definition.name: definition for definition in definitions}
        taught |= saved.keys()
        for task in tasks:
            try:
                check_labels(task, saved.get(task.name))
            except MtdnnError as error:
                raise CheckpointError(f"{WHERE}: {path}: {error}") from error
    names = [task.name for task in tasks]
    if names and not taught.intersection(names):
        have = ", ".join(sorted(taught)) or "none"
        raise ConfigError(f"{WHERE}: no teacher has a head for {', '.join(names)}; their heads: {have}")
    return [name for name in names if name not in taught]


def soften(outputs: Outputs, *, temperature: float) -> Outputs:
    """Distributions at a temperature; numbers as they are."""
    if outputs.log_probs_UK is None or temperature == 1:
        return outputs
    return replace(outputs, log_probs_UK=F.log_softmax(outputs.log_probs_UK / temperature, dim=-1))


def average(outputs: Sequence[Outputs]) -> Outputs:
    """The mean of probabilities, or of numbers."""
    if outputs[0].log_probs_UK is None:
        values = [each.values_U for each in outputs if each.values_U is not None]
        return replace(outputs[0], values_U=torch.stack(values).mean(0))
    log_probs = [each.log_probs_UK for each in outputs if each.log_probs_UK is not None]
    return replace(outputs[0], log_probs_UK=torch.stack(log_probs).logsumexp(0) - math.log(len(outputs)))


def told(contents: Sequence[str]) -> str:
    return ", ".join(content[:12] for content in contents)
