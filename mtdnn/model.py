"""A shared encoder with one head per task."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from mtdnn import encoder as enc
from mtdnn.data.batch import Batch
from mtdnn.data.tokenize import tokenizer_name
from mtdnn.divergences import Outputs, at_least_float32
from mtdnn.errors import CheckpointError, ConfigError, MtdnnError, listed, unknown
from mtdnn.families import OWN_TYPE
from mtdnn.files import MANIFEST, verify_manifest
from mtdnn.heads.base import Head, build_head, copy_head
from mtdnn.hub_upload import upload
from mtdnn.model_card import CARD, model_card
from mtdnn.passes import Perturbable
from mtdnn.rng import Rng
from mtdnn.tasks import TaskDef

MODEL_FORMAT = 1
UNFIT = ("missing_keys", "unexpected_keys", "mismatched_keys")  # of transformers' report, which it only logs


class MultiTaskConfig(PretrainedConfig):
    """The encoder's configuration, the pooling, and the definition of every task.

    :param tokenizer: which one the model was trained with, as :func:`mtdnn.data.tokenize.tokenizer_name` says it.
    """

    model_type = OWN_TYPE

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        pool: enc.Pool = "native",
        tasks: dict[str, dict[str, Any]] | None = None,
        max_length: int = 128,
        tokenizer: str | None = None,
        **kwargs: Any,
    ):
        self.encoder = encoder or {}
        self.pool = pool
        self.tasks = tasks or {}
        self.encoder_max_length = max_length
        self.tokenizer = tokenizer
        super().__init__(**kwargs)


class MultiTaskModel(PreTrainedModel, Perturbable):
    """One encoder, one pooler, and a head for each task (MT-DNN, figure 1)."""

    config_class = MultiTaskConfig
    config: MultiTaskConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: MultiTaskConfig):
        super().__init__(config)
        inner = AutoConfig.for_model(**config.encoder)
        dtype = torch.get_default_dtype()  # and not the one in which the encoder's file was saved
        self.encoder: PreTrainedModel = AutoModel.from_config(inner, dtype=dtype, trust_remote_code=False)
        self.task_defs = {name: TaskDef.model_validate(definition) for name, definition in config.tasks.items()}
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None
        dropout = getattr(inner, "hidden_dropout_prob", 0.1)
        self.pooler = enc.Pooler(
            kind=config.pool,
            hidden_size=inner.hidden_size,
            model_type=inner.model_type,
            dropout=dropout,
            norm_eps=getattr(inner, "norm_eps", 1e-5),
        )
        self.reads_first_token = config.pool != "mean"
        self.heads = nn.ModuleDict(
            {head_key(name): build_head(task, hidden_size=inner.hidden_size) for name, task in self.task_defs.items()}
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Our own layers as BERT's: normal with the encoder's initializer_range, zero bias."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=float(self.config.encoder.get("initializer_range", 0.02)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @classmethod
    def from_encoder(
        cls, path: str, tasks: Sequence[TaskDef], *, pool: enc.Pool = "native", max_length: int = 128, seed: int = 0
    ) -> "MultiTaskModel":
        """A pretrained encoder with fresh heads, whose start depends on ``seed`` and each task's name alone."""
        encoder_config = enc.load_config(path)
        config = make_config(encoder_config, tasks, pool=pool, max_length=max_length)
        pretrained = enc.load_weights(path, encoder_config)
        return cls.around(pretrained, config, pooler=getattr(pretrained, "pooler", None), seed=seed)

    @classmethod
    def around(
        cls, pretrained: PreTrainedModel, config: MultiTaskConfig, *, pooler: nn.Module | None, seed: int
    ) -> "MultiTaskModel":
        """A copy of an encoder and of its pooler, where it has one, with fresh heads."""
        model = cls(config)
        model.load_encoder(pretrained)
        model.reset_heads(list(model.task_defs), seed=seed)
        model.reset_pooler(seed=seed, pretrained=pooler)
        return model

    def load_encoder(self, pretrained: PreTrainedModel) -> None:
        weights = {k: v for k, v in pretrained.state_dict().items() if not k.startswith("pooler.")}
        self.encoder.load_state_dict(weights, strict=True)

    def with_tasks(self, tasks: Sequence[TaskDef], *, seed: int) -> "MultiTaskModel":
        """The same encoder with heads for ``tasks``: a task that is here keeps its head, a new one gets a fresh one.

        :raises CheckpointError: when a task is here with other labels.
        """
        config = AutoConfig.for_model(**self.config.encoder)
        model = type(self)(make_config(config, tasks, pool=self.config.pool, max_length=self.config.encoder_max_length))
        model.reset_heads(list(model.task_defs), seed=seed)
        weights = model.state_dict()
        for name, value in self.state_dict().items():
            if name in weights:
                weights[name] = value
        for task in tasks:
            check_labels(task, self.task_defs.get(task.name))
        model.load_state_dict(weights)
        return model

    def remap_labels(self, task: TaskDef) -> None:
        """Put the head's rows in the order of the definition's labels, which are the checkpoint's in another order.

        :raises CheckpointError: when they are not.
        """
        saved, old = self.task_defs[task.name], self.head(task.name)
        if (saved.head_type, sorted(saved.label_names)) != (task.head_type, sorted(task.label_names)):
            check_labels(task, saved)
        if saved.label_names == task.label_names:
            return
        head = build_head(task, hidden_size=self.encoder.config.hidden_size).to(self.device)
        copy_head(old, head, {}, task=task.name, source="the checkpoint")
        self._set_head(task, head)

    def add_task(self, task: TaskDef, *, seed: int) -> None:
        """Give the model a head for one more task, fresh from ``seed`` and the task's name; nothing else changes.

        :raises ConfigError: when the model has a task of that name.
        """
        if task.name in self.task_defs:
            raise ConfigError(f"task '{task.name}': the model has it already; drop it first, or rename the definition")
        self._set_head(task, build_head(task, hidden_size=self.encoder.config.hidden_size))
        self.reset_heads([task.name], seed=seed)

    def drop_task(self, name: str) -> None:
        """Take a task and its head out of the model; the others stay as they are.

        :raises ConfigError: when there is no such task.
        """
        if name not in self.task_defs:
            raise ConfigError(unknown("task of this model", name, self.task_defs))
        del self.task_defs[name], self.heads[head_key(name)]
        self.config.tasks = definitions(self.task_defs.values())

    def freeze_shared(self, frozen: bool = True) -> None:
        """Leave encoder and pooler out of training, so that only heads learn; ``False`` takes them in again.

        This is a state of the model in memory; it is not saved.
        """
        self.encoder.requires_grad_(not frozen)
        self.pooler.requires_grad_(not frozen)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but weights that are pickled are never read, and a run's folder is checked.

        :raises CheckpointError: when a file of the folder is not what its manifest says.
        """
        if pretrained_model_name_or_path is not None:
            folder = Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
            if (folder / MANIFEST).is_file():
                verify_manifest(folder, format=MODEL_FORMAT)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **{**kwargs, "use_safetensors": True})

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], is_main_process: bool = True, *args: Any, **kwargs: Any
    ) -> None:
        """As in transformers; a manifest of what lay there before is taken away."""
        stale = Path(save_directory) / MANIFEST
        if is_main_process and stale.is_file():
            stale.unlink()
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        tokenizer: Any = None,
        card: str | None = None,
        private: bool | None = None,
        token: str | None = None,
    ) -> str:
        """Publish the model with its card; its address. :func:`mtdnn.interop.publish.publish` takes a run's folder.

        :param repo_id: ``<account>/<name>``; made where it is not there.
        :param tokenizer: that it was trained with, to lie beside it.
        :param card: its text; by default one of the tasks alone.
        :param private: of a repository that is made; by default as the account has it.
        :param token: by default the one that ``hf auth login`` stored.
        :raises ConfigError: when the hub cannot be reached or refuses it.
        """
        with TemporaryDirectory() as place:
            folder = Path(place)
            self.save_pretrained(folder)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)
            text = card or model_card(list(self.task_defs.values()), name=repo_id)
            (folder / CARD).write_text(text, encoding="utf-8")
            return upload(folder, repo_id, private=private, token=token)

    def _set_head(self, task: TaskDef, head: Head) -> None:
        """The head and its definition, here and in what is saved."""
        self.heads[head_key(task.name)] = head.to(device=self.device, dtype=self.dtype).train(self.training)
        self.task_defs[task.name] = task
        self.config.tasks = definitions(self.task_defs.values())

    @torch.no_grad()
    def reset_all(self, *, seed: int) -> None:
        """Random weights everywhere, for encoders without pretrained ones."""
        generator = Rng(f"{seed}/encoder").generator()
        std = float(self.config.encoder.get("initializer_range", 0.02))
        for weight in (w for w in self.encoder.parameters() if w.dim() > 1):
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)
        self.reset_pooler(seed=seed, pretrained=None)
        self.reset_heads(list(self.task_defs), seed=seed)

    @torch.no_grad()
    def reset_heads(self, names: Sequence[str], *, seed: int) -> None:
        """Fresh weights for the named heads."""
        for name in names:
            generator = Rng(f"{seed}/head/{name}").generator()
            self._reset(self.head(name), generator)
            reset_bias = getattr(self.head(name), "reset_bias", None)
            if reset_bias is not None:
                reset_bias()

    @torch.no_grad()
    def reset_pooler(self, *, seed: int, pretrained: nn.Module | None) -> None:
        """The pretrained pooler's weights where the family has one, else fresh ones."""
        dense = getattr(pretrained, "dense", pretrained)
        if isinstance(pretrained, enc.Pooler) and self.pooler.kind == pretrained.kind == "native":
            self.pooler.load_state_dict(pretrained.state_dict())
        elif isinstance(dense, nn.Linear) and self.pooler.kind == "native":
            self.pooler.dense.load_state_dict(dense.state_dict())
        else:
            self._reset(self.pooler, Rng(f"{seed}/pooler").generator())

    def _reset(self, module: nn.Module, generator: torch.Generator) -> None:
        std = float(self.config.encoder.get("initializer_range", 0.02))
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * std)
                if layer.bias is not None:
                    layer.bias.zero_()

    def predict(self, task: str | Sequence[str], rows: Iterable[Any]) -> list[dict[str, Any]]:
        """What the heads say of new texts, in their order, without dropout.

        The tokenizer is the one in the folder from which ``from_pretrained`` read the model. For rows without end, or
        another tokenizer: :class:`mtdnn.predictor.Predictor`.

        :param task: one task, or several, which share one encoding.
        :param rows: each a text, a pair of texts, or a mapping from a column's name to its text.
        :return: of each row the label and probabilities, or score; by task where several were asked.
        :raises ConfigError: when the model has no such task, or was not read from a folder.
        :raises DataError: naming every row without the task's texts.
        """
        import mtdnn  # the package's own name for what stands above this module

        training = self.training
        try:
            names = [task] if isinstance(task, str) else list(task)
            found = list(mtdnn.Predictor.of(self.eval()).predict_rows(rows, tasks=names))
        finally:
            self.train(training)
        return [each[task] for each in found] if isinstance(task, str) else found

    def head(self, task: str) -> Head:
        return cast(Head, self.heads[head_key(task)])

    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        return self.head(batch.task).outputs(logits, batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The task loss of each unit: (U,)."""
        return self.head(batch.task).loss(logits, batch)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of one task's batch; pooler and head in float32 or wider, whatever the encoder runs in.

        A penalty is a small difference of logits: rounding them to bf16 moved it by 4 %.
        """
        return self.logits_of(enc.encode(self.encoder, batch.inputs_NT), batch)

    def logits_of(self, hidden_NTD: Tensor, batch: Batch) -> Tensor:
        """What the batch's task says of the last hidden states."""
        head = self.head(batch.task)
        with torch.autocast(hidden_NTD.device.type, enabled=False):
            if head.reads_tokens:
                return cast(Tensor, head(at_least_float32(hidden_NTD), batch))
            return cast(Tensor, head(self.pooled_of(hidden_NTD, batch.mask_NT), batch))

    def reads_first_alone(self, batch: Batch) -> bool:
        return self.reads_first_token and not self.head(batch.task).reads_tokens

    def hidden(self, inputs_NT: Mapping[str, Tensor]) -> Tensor:
        """The last hidden states, in float32 or wider, for heads that read tokens: (N, T, D)."""
        return at_least_float32(enc.encode(self.encoder, inputs_NT))

    def pooled(self, inputs_NT: Mapping[str, Tensor]) -> Tensor:
        """One vector per row, in float32 or wider, for any number of heads: (N, D)."""
        with self.shortening():
            hidden_NTD = enc.encode(self.encoder, inputs_NT)
        return self.pooled_of(hidden_NTD, inputs_NT["attention_mask"])

    def pooled_of(self, hidden_NTD: Tensor, mask_NT: Tensor) -> Tensor:
        """One vector per row of the last hidden states: (N, D)."""
        with torch.autocast(hidden_NTD.device.type, enabled=False):
            return cast(Tensor, self.pooler(at_least_float32(hidden_NTD), mask_NT))


def head_key(task: str) -> str:
    """A task's name as a module's: a task may be called ``train`` or ``type``, a module may not."""
    return f"task_{task}"


def make_config(
    encoder: PretrainedConfig, tasks: Sequence[TaskDef], *, pool: enc.Pool, max_length: int
) -> MultiTaskConfig:
    """The model's configuration, with the tasks' definitions inside."""
    return MultiTaskConfig(encoder=encoder.to_dict(), pool=pool, tasks=definitions(tasks), max_length=max_length)


def definitions(tasks: Iterable[TaskDef]) -> dict[str, dict[str, Any]]:
    """What the configuration holds of each task, by name: all but the folder that it came from."""
    return {task.name: task.model_dump(mode="json", exclude={"folder"}) for task in tasks}


def load_model(folder: Path) -> MultiTaskModel:
    """A model that ``save_pretrained`` wrote; one of a run is checked against its manifest.

    :raises CheckpointError: when there is none, or it is damaged.
    """
    require_model(folder)
    try:
        loaded: Any = MultiTaskModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except MtdnnError:
        raise
    except Exception as error:  # safetensors, JSON and transformers raise many kinds for a damaged file
        raise CheckpointError(f"{folder}: the model cannot be read: {str(error)[:300]}; train it anew") from error
    model, found = loaded
    if wrong := sorted(map(str, [key for kind in UNFIT for key in found[kind]])):
        raise CheckpointError(f"{folder}: missing or unknown weights: {listed(wrong)}; train it anew")
    return cast(MultiTaskModel, model)


def require_model(folder: Path) -> None:
    """CheckpointError when a folder holds no model."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no model there (config.json is missing); give a run's model folder")


def saved_config(folder: Path) -> tuple[MultiTaskConfig, list[TaskDef]]:
    """The configuration and tasks of a model that ``save_pretrained`` wrote; CheckpointError when it is not ours."""
    require_model(folder)
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = found.get("model_type")
        config = MultiTaskConfig.from_dict(found)
        tasks = [TaskDef.model_validate(definition) for definition in config.tasks.values()]
    except Exception as error:  # transformers raises many kinds for a damaged file
        raise CheckpointError(f"{folder}: config.json cannot be read: {str(error)[:300]}; train it anew") from error
    if kind != MultiTaskConfig.model_type:
        raise CheckpointError(f"{folder} holds a model of type {kind!r}, not one of ours; give a run's model folder")
    return config, tasks


def check_labels(task: TaskDef, saved: TaskDef | None) -> None:
    """Refuse a checkpoint whose labels or head are not the task's, showing both."""
    if saved is None:
        return
    if (saved.head_type, saved.label_names) != (task.head_type, task.label_names):
        same = (saved.head_type, sorted(saved.label_names)) == (task.head_type, sorted(task.label_names))
        remedy = "mtdnn evaluate --remap-labels reorders them" if same else "train anew or restore the definition"
        raise CheckpointError(
            f"task '{task.name}': the checkpoint was trained as {saved.head_type} with labels "
            f"{list(saved.label_names)}, the definition says {task.head_type} with {list(task.label_names)}; {remedy}"
        )


def check_input(model: MultiTaskModel, tokenizer: Any, *, max_length: int, where: str) -> None:
    """Refuse a checkpoint that was trained on other token ids or another length, showing both.

    A checkpoint that does not say on which is taken as it is.
    """
    check_token_ids(model.config, tokenizer, max_length=max_length, where=where)


def check_token_ids(config: MultiTaskConfig, tokenizer: Any, *, max_length: int, where: str) -> None:
    """As :func:`check_input`, of a model's configuration alone."""
    saved, given = config.tokenizer, tokenizer_name(tokenizer)
    if saved is not None and saved != given:
        raise CheckpointError(f"{where}: the model was trained with {saved}, and here is {given}; restore its own")
    if config.encoder_max_length != max_length:
        raise CheckpointError(
            f"{where}: the model was trained with rows of {config.encoder_max_length} tokens, encoder.max_length "
            f"is {max_length}; set it to the model's"
        )


AutoConfig.register(OWN_TYPE, MultiTaskConfig, exist_ok=True)
AutoModel.register(MultiTaskConfig, MultiTaskModel, exist_ok=True)
