"""An official MT-DNN checkpoint (namisan/mt-dnn) as a model folder of ours.

In the official network the encoder stands under ``bert.``, the head of the N-th training task under
``scoring_list.N.``, and the dense layer between them under ``bert.pooler.`` or, in the code from 2020 on, under
``pooler.``, the network's own, which the heads then read. What the network computes is the same as ours: the first
token through that layer and tanh, dropout, one linear layer a task.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from mtdnn import encoder as enc
from mtdnn.errors import CheckpointError, ConfigError, EncoderError, listed, unknown
from mtdnn.files import new_folder, require_new
from mtdnn.heads.labels import label_index
from mtdnn.interop.official_checkpoint import FAMILIES, OfficialCheckpoint, read_official
from mtdnn.model import MultiTaskModel, head_key, make_config
from mtdnn.tasks import TaskDef, TaskRegistry, check_names

LEFT_OUT = "-"
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
DETAILS = (
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
)
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")  # counted up, not learned
# The row order of the official code's labels, where a checkpoint does not hold it (data_utils/label_map.py there).
LABEL_ORDERS = (("contradiction", "neutral", "entailment"), ("not_entailment", "entailment"), ("neutral", "entails"))
MAX_LENGTH = 512
TEXTS_SWAPPED = (
    "checkpoints of 2019 and before read the second text of a pair first: if the scores of a head are poor, swap "
    "text_a and text_b in the task's definition and import again"
)


@dataclass
class Parts:
    """Tensors under our names, what is wrong, and what a user should know."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def import_checkpoint(
    file: Path, *, tasks: str, encoder: str | None, out: Path, registry: TaskRegistry
) -> tuple[Path, list[str]]:
    """Write a model folder with the checkpoint's encoder, its pooler, and the named heads.

    :param tasks: names with commas between them, one for each head from the first on, ``-`` for a head that is left
        out; empty for the encoder alone.
    :param encoder: hub id or folder of the encoder that the checkpoint was made from, for its configuration and
        tokenizer; by default the checkpoint's own options, and the tokenizer of the encoder that they name.
    :returns: the folder, and what was left out, reordered or guessed.
    :raises CheckpointError: with every tensor that is missing, unexpected or of another shape, and every head that does
        not fit its task.
    """
    require_new(out)
    wanted = heads_of(tasks, registry)
    official = read_official(file)
    config = encoder_config(official, encoder)
    tokenizer = tokenizer_of(official, encoder, vocab_size=config.vocab_size)
    model, told = converted(official, wanted, config)
    save_folder(model, tokenizer, out)
    return out, told


def heads_of(tasks: str, registry: TaskRegistry) -> list[TaskDef | None]:
    """The task of each head from the first on; None for one that is left out. ConfigError for unknown names."""
    names = [name.strip() for name in tasks.split(",")] if tasks.strip() else []
    chosen = [name for name in names if name != LEFT_OUT]
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise ConfigError(f"--tasks: {', '.join(twice)} stands twice; a head is one task's")
    found = {task.name: task for task in check_names(chosen, registry, where="--tasks")}
    return [found.get(name) for name in names]


def encoder_config(official: OfficialCheckpoint, encoder: str | None) -> PretrainedConfig:
    """The encoder's configuration, from ``encoder`` or from the checkpoint's options."""
    if encoder is not None:
        config = enc.load_config(encoder)
        if config.model_type not in FAMILIES.values():
            raise ConfigError(f"--encoder: {unknown('family of encoders', config.model_type, FAMILIES.values())}")
        check_same(official, config)
        return config
    lacking = [key for key in SIZES if type(official.options.get(key)) is not int]
    if lacking:
        raise ConfigError(
            f"{official.file}: config: no number for {', '.join(lacking)}; give --encoder, the hub id or folder of the "
            "encoder that the checkpoint was made from"
        )
    given = {key: official.options[key] for key in (*SIZES, *DETAILS) if key in official.options}
    plain = {key: value for key, value in given.items() if isinstance(value, int | float | str)}
    return AutoConfig.for_model(official.family, **plain)  # type: ignore[no-any-return]


def check_same(official: OfficialCheckpoint, config: PretrainedConfig) -> None:
    """ConfigError when the checkpoint's options say otherwise; not all of it shows in the tensors' shapes."""
    given = {key: official.options.get(key) for key in (*SIZES, "hidden_act", "layer_norm_eps")}
    other = [
        f"--encoder: {key}: {getattr(config, key)}, but {value} in the checkpoint"
        for key, value in given.items()
        if isinstance(value, int | float | str) and value != getattr(config, key)
    ]
    if other:
        raise ConfigError(listed([*other, "give the encoder that the checkpoint was made from, or none"]))


def tokenizer_of(official: OfficialCheckpoint, encoder: str | None, *, vocab_size: int) -> Any:
    """The tokenizer, which no checkpoint holds. EncoderError when it is not to be had, or has too many words."""
    named = official.options.get("bert_model_type")
    path = encoder or (named if isinstance(named, str) else None)
    if path is None:
        raise ConfigError(f"{official.file}: which tokenizer? --encoder, a hub id or a folder that has it")
    try:
        tokenizer = enc.load_tokenizer(path)
    except EncoderError as error:
        raise EncoderError(f"the tokenizer: {error}. --encoder says where it is") from error
    if len(tokenizer) > vocab_size:
        raise EncoderError(f"encoder '{path}': its tokenizer has {len(tokenizer)} words, the encoder {vocab_size}")
    return tokenizer


def converted(
    official: OfficialCheckpoint, tasks: Sequence[TaskDef | None], config: PretrainedConfig
) -> tuple[MultiTaskModel, list[str]]:
    """The model with the checkpoint's weights, and what is to be told."""
    known = [task for task in tasks if task is not None]
    model = MultiTaskModel(make_config(config, known, pool="native", max_length=max_length(official, config)))
    model.reset_pooler(seed=0, pretrained=None)
    parts = Parts()
    add_encoder(parts, official)
    add_pooler(parts, official, needed=bool(known))
    add_heads(parts, official, tasks, model)
    expected = model.state_dict()
    parts.faults += mismatches(expected, parts, optional=() if known else ("pooler.dense.weight", "pooler.dense.bias"))
    if parts.faults:
        raise CheckpointError(f"{official.file}: faults: {len(parts.faults)}\n{listed(parts.faults)}")
    model.load_state_dict({**expected, **{name: value.float() for name, value in parts.weights.items()}})
    if any(task.inputs.second for task in known) and "task_def_list" not in official.options:
        parts.told.append(TEXTS_SWAPPED)
    return model.eval(), parts.told


def max_length(official: OfficialCheckpoint, config: PretrainedConfig) -> int:
    """Tokens of a row, as in the official run, no more than the encoder has positions for."""
    given = official.options.get("max_seq_len")
    shift = 0 if config.model_type == "bert" else int(config.pad_token_id or 0) + 1
    return min(given if isinstance(given, int) else MAX_LENGTH, int(config.max_position_embeddings) - shift)


def add_encoder(parts: Parts, official: OfficialCheckpoint) -> None:
    """``bert.*`` to ``encoder.*``; what belongs to no part of the network is a fault."""
    for name, value in official.weights.items():
        if name.startswith(("scoring_list.", "pooler.", "bert.pooler.", "dropout_list.")) or name in BUFFERS:
            continue
        if name.startswith("bert."):
            parts.weights[f"encoder.{name.removeprefix('bert.')}"] = value
        else:
            parts.faults.append(f"unexpected: {name} {list(value.shape)}")


def add_pooler(parts: Parts, official: OfficialCheckpoint, *, needed: bool) -> None:
    """The dense layer that the heads read: the network's own where it has one, else the encoder's.

    :param needed: whether heads are wanted; an encoder alone may come without.
    """
    own, inner = under("pooler.", official), under("bert.pooler.", official)
    parts.weights |= {f"pooler.{name}": value for name, value in (own or inner).items()}
    if own and inner:
        parts.told.append("bert.pooler left out: the heads read the network's own pooler")
    activation = official.options.get("pooler_actf", "tanh")
    if own and needed and activation != "tanh":
        parts.faults.append(f"config: pooler_actf: the heads read a {activation}, ours read a tanh; leave --tasks out")
    if not own and not inner and not needed:
        parts.told.append("the checkpoint has no pooler: a fresh one is in its place")


def add_heads(
    parts: Parts, official: OfficialCheckpoint, tasks: Sequence[TaskDef | None], model: MultiTaskModel
) -> None:
    """``scoring_list.N`` to the N-th task's head; heads without a task are left out and told."""
    found = under("scoring_list.", official)
    numbers = sorted({int(name.split(".")[0]) for name in found if name.split(".")[0].isdigit()})
    parts.faults += [f"unexpected: scoring_list.{name}" for name in found if not name.split(".")[0].isdigit()]
    named = {number: task for number, task in enumerate(tasks) if task is not None}
    for number, task in named.items():
        layers = under(f"scoring_list.{number}.", official)
        try:
            parts.weights |= head_weights(task, number, layers, official, model, parts.told)
        except ValueError as error:
            parts.faults.append(f"head {number} for task '{task.name}': {error}")
    for number in numbers:
        if number not in named:
            parts.told.append(f"head {number}{_official_name(official, number)} left out: --tasks does not name it")


def head_weights(
    task: TaskDef,
    number: int,
    layers: dict[str, Tensor],
    official: OfficialCheckpoint,
    model: MultiTaskModel,
    told: list[str],
) -> dict[str, Tensor]:
    """A head's linear layer under our name, its rows in the order of the task's labels; ValueError if it is not one."""
    if not layers:
        raise ValueError("the checkpoint has no such head; name fewer tasks")
    if set(layers) != {"weight", "bias"}:
        more = ", ".join(sorted(layers)[:3])
        raise ValueError(
            f"not one linear layer but {more}, as an answer module (SAN) has; write {LEFT_OUT} in its place"
        )
    prefix = f"heads.{head_key(task.name)}.output"
    ours = model.state_dict()
    if f"{prefix}.bias" not in ours:
        raise ValueError(f"a {task.kind} head has no linear layer called output; write {LEFT_OUT} in its place")
    rows, wanted = len(layers["bias"]), len(ours[f"{prefix}.bias"])
    if rows != wanted:
        labels = f" ({', '.join(task.label_names)})" if task.label_names else ""
        raise ValueError(f"outputs: {rows} in the checkpoint, {wanted} in the {task.kind} head{labels}")
    order, how = row_order(task, official.label_words(number), rows=rows)
    told.append(f"head {number}{_official_name(official, number)} is task '{task.name}'{how}")
    return {f"{prefix}.{name}": value[order] for name, value in layers.items()}


def row_order(task: TaskDef, words: Sequence[str], *, rows: int) -> tuple[list[int], str]:
    """For each class of the task the checkpoint's row, and in words how that is known.

    :param words: the checkpoint's label words in its order, empty when it does not tell.
    :raises ValueError: when the words are not the task's labels.
    """
    if rows == 1:
        return [0], ""
    official = list(words) or next((list(order) for order in LABEL_ORDERS if is_order_of(order, task)), [])
    if not official:
        numbered = ", ".join(f"{index} = {name}" for index, name in enumerate(task.label_names))
        return list(range(rows)), f", its outputs taken as {numbered}"
    ours = [int(label_index(word, task.label_words)) for word in official]
    if sorted(ours) != list(range(rows)):
        raise ValueError(f"labels {', '.join(official)} in the checkpoint, {', '.join(task.label_names)} in the task")
    return [ours.index(index) for index in range(rows)], f", its outputs taken as {', '.join(official)}"


def is_order_of(order: Sequence[str], task: TaskDef) -> bool:
    """Whether these words are the task's labels, each once."""
    return len(order) == len(task.label_words) and all(
        sum(word in words for word in order) == 1 for words in task.label_words
    )


def mismatches(expected: dict[str, Tensor], parts: Parts, *, optional: Sequence[str]) -> Iterator[str]:
    """What is missing, left over, or of another shape."""
    heads = tuple(name for name in expected if name.startswith("heads."))
    for name, value in expected.items():
        if name in parts.weights and parts.weights[name].shape != value.shape:
            here = list(parts.weights[name].shape)
            yield f"shape: {name} is {here} in the checkpoint, {list(value.shape)} by the configuration"
        elif name not in parts.weights and name not in heads and name not in optional:
            yield f"missing: {name} {list(value.shape)}"
    yield from (f"unexpected: {name}" for name in parts.weights if name not in expected)


def under(prefix: str, official: OfficialCheckpoint) -> dict[str, Tensor]:
    """The tensors below a name, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in official.weights.items() if name.startswith(prefix)}


def _official_name(official: OfficialCheckpoint, number: int) -> str:
    names = official.task_names
    return f" ('{names[number]}' in the checkpoint)" if number < len(names) else ""


def save_folder(model: MultiTaskModel, tokenizer: Any, out: Path) -> None:
    """The model and its tokenizer; the folder is whole or not there."""
    with new_folder(out) as staged:
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
