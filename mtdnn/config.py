"""One experiment file: systems made of stages, with tasks, fractions and seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from mtdnn.data.rows import BadRows
from mtdnn.errors import MAX_NAME, ConfigError, listed, unknown
from mtdnn.optim import optimizer_faults, schedule_faults
from mtdnn.schema import Strict, validate
from mtdnn.tasks import merged, shipped
from mtdnn.yaml_files import YamlFile, dotted, load_yaml, parse_settings

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
StageKind = Literal["joint", "finetune", "adapt", "cosine"]
SWITCHED_OFF_BY_NULL = ("clip_norm", "patience", "save_every", "diagnose_every", "layer_decay", "freeze")


def check_distinct(values: Sequence[Any], *, where: str) -> None:
    """ValueError that names what stands twice: it would be trained once and counted as two."""
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"{where}: {', '.join(map(str, twice))} stands twice")


class EncoderConfig(Strict):
    """Which encoder, and how its last layer becomes one vector.

    :param path: hub id, local folder (of an encoder, or a model folder of ours), ``package:<installed
        package>/<folder>``, or ``tiny`` for a small random one.
    :param max_length: tokens of a row, special tokens included.
    """

    path: str
    pool: Literal["native", "mean", "first"] = "native"
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128


class DataConfig(Strict):
    """Which rows.

    :param layout: ``hub``, ``files`` or ``generated``; by default what fits ``--data-dir``.
    :param drop_leaks: leave training units out whose text pair stands in any task's validation or test split.
    :param max_train_rows: cap on each task's training rows, stratified and seeded.
    :param eval_splits: what a trained model is evaluated on, where it is labelled. Selecting the best checkpoint reads
        validation all the same.
    :param bad_rows: ``stop`` names every bad row and trains nothing; ``skip`` leaves them out, counted, and writes them
        to the run's folder.
    """

    layout: Literal["hub", "files", "generated"] | None = None
    bad_rows: BadRows = "stop"
    drop_leaks: bool = True
    max_train_rows: Count | None = None
    eval_splits: Annotated[list[Literal["validation", "test"]], Field(min_length=1)] = ["validation", "test"]

    @model_validator(mode="after")
    def _distinct(self) -> "DataConfig":
        check_distinct(self.eval_splits, where="eval_splits")
        return self


class TrainConfig(Strict):
    """See :class:`mtdnn.train_plan.TrainOptions`; what is not given comes from the level above.

    ``null`` switches ``clip_norm``, ``patience``, ``save_every``, ``diagnose_every``, ``layer_decay`` and ``freeze``
    off; elsewhere it is as if not given.
    """

    epochs: Count | None = None
    min_updates: Annotated[int, Field(ge=0)] | None = None
    batch_size: Count | None = None
    accumulate: Count | None = None
    accumulation: Literal["mixed", "same_task"] | None = None
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    freeze: Annotated[str, Field(pattern=r"^(embeddings|layer:[1-9][0-9]*|encoder)$")] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["auto", "fp32", "bf16"] | None = None
    buckets: bool | None = None
    select: Literal["best", "last"] | None = None
    evaluate: Literal["student", "teacher"] | None = None
    diagnose_every: Count | None = None
    patience: Count | None = None
    save_every: Count | None = None
    eval_batch_size: Count | None = None
    eval_precision: Literal["auto", "fp32", "bf16"] | None = None
    on_nan: Literal["stop", "skip"] | None = None
    max_skipped: Annotated[int, Field(ge=0)] | None = None
    num_workers: Annotated[int, Field(ge=0)] | None = None
    activation_checkpointing: bool | None = None

    @model_validator(mode="after")
    def _known_methods(self) -> "TrainConfig":
        faults = optimizer_faults(self.optimizer, where="optimizer") if self.optimizer is not None else []
        faults += schedule_faults(self.schedule, where="schedule") if self.schedule is not None else []
        if faults:
            raise ValueError(listed(faults))
        return self

    def over(self, base: "TrainConfig") -> "TrainConfig":
        return TrainConfig(**{**base.given(), **self.given()})

    def given(self) -> dict[str, Any]:
        given = self.model_dump(exclude_unset=True)
        return {name: value for name, value in given.items() if value is not None or name in SWITCHED_OFF_BY_NULL}


FEW_SHOT = TrainConfig(batch_size=8, min_updates=200, select="last")


class FewShot(Strict):
    """How small fractions are trained: the validation labels are more than the training's and must not choose.

    :param up_to: the largest fraction that counts as small.
    :param train: options over batches of 8, at least 200 updates and the last checkpoint.
    """

    up_to: Share = 0.01
    train: TrainConfig = TrainConfig()

    @property
    def options(self) -> TrainConfig:
        return self.train.over(FEW_SHOT)


class HeadStart(Strict):
    """Start a fresh head from another task's: ``map`` gives for each of our labels the label it starts from."""

    from_: Annotated[str, Field(alias="from")]
    map: dict[str, str] = {}


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME)]  # of a folder


class StageConfig(Strict):
    """One stage of a system.

    :param kind: ``joint``: one model on all tasks. ``finetune``: a model a task. ``adapt``: a model a task and
        fraction. ``cosine``: no training; the encoder's own cosine of both texts.
    :param from_: an earlier stage of the same system whose weights this one starts from.
    :param head: ``fresh``, or another task's to start from; by default the checkpoint's own where it has the task.
    :param task_weights: factors on the tasks' losses, above 0; 1 where a task is not named.
    :param also_evaluate: for a task of the stage, others that its head answers at the end, without being trained for
        them.
    :param seeds: the stage's own seeds; a later stage's seed that is not among them starts from the first.
    """

    name: Name
    kind: StageKind
    from_: Annotated[str | None, Field(alias="from")] = None
    tasks: Annotated[list[str], Field(min_length=1)]
    sampler: dict[str, Any] = {"type": "round_robin"}
    objective: dict[str, Any] = {"type": "standard"}
    regularizers: list[dict[str, Any]] = []
    task_weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    also_evaluate: dict[str, Annotated[list[str], Field(min_length=1)]] = {}
    fractions: list[Share] = []
    seeds: list[int] | None = None
    head: Literal["fresh"] | HeadStart | None = None
    train: TrainConfig = TrainConfig()
    few_shot: FewShot = FewShot()
    max_train_rows: Count | None = None
    save_model: bool | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "StageConfig":
        if (self.kind == "adapt") != bool(self.fractions):
            raise ValueError(f"fractions belong to adapt stages, which need them; stage '{self.name}' is {self.kind}")
        for name, values in (("tasks", self.tasks), ("fractions", self.fractions), ("seeds", self.seeds or [])):
            check_distinct(values, where=f"stage '{self.name}': {name}")
        for key, named in (("task_weights", self.task_weights), ("also_evaluate", self.also_evaluate)):
            for task in named:
                if task not in self.tasks:
                    raise ValueError(f"stage '{self.name}': {key}: {unknown('task', task, self.tasks)}")
        if self.also_evaluate and self.kind == "cosine":
            raise ValueError(f"stage '{self.name}': also_evaluate: a cosine stage has no head to answer other tasks")
        check_distinct(self.evaluated(), where=f"stage '{self.name}': tasks and also_evaluate")
        return self

    def evaluated(self) -> list[str]:
        """Its tasks, and those that it is only evaluated on."""
        return [*self.tasks, *(task for others in self.also_evaluate.values() for task in others)]

    @property
    def keeps_model(self) -> bool:
        return self.kind in ("joint", "finetune") if self.save_model is None else self.save_model


class ExperimentConfig(Strict):
    """An experiment, its ``sizes`` and the ``base`` of each stage resolved."""

    name: Name
    description: str = ""
    encoder: EncoderConfig
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    seeds: Annotated[list[int], Field(min_length=1)] = [1]
    systems: Annotated[dict[Name, Annotated[list[StageConfig], Field(min_length=1)]], Field(min_length=1)]
    _file: YamlFile | None = PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        """The file that it was read from."""
        return None if self._file is None else self._file.path

    def place(self, *key_path: str | int) -> str:
        """Where a key stands: in its file and line, or in what was set; the key itself where there is no file."""
        return dotted(key_path) if self._file is None else self._file.where(key_path)

    @model_validator(mode="after")
    def _stages_follow(self) -> "ExperimentConfig":
        check_distinct(self.seeds, where="seeds")
        for system, stages in self.systems.items():
            names: list[str] = []
            for stage in stages:
                if stage.from_ is not None and stage.from_ not in names:
                    known = unknown("earlier stage", stage.from_, names)
                    raise ValueError(f"systems.{system}: stage '{stage.name}' starts from {known}")
                if stage.name in names:
                    raise ValueError(f"systems.{system}: two stages are called '{stage.name}'; give one another name")
                names.append(stage.name)
        return self

    def tasks(self) -> list[str]:
        """Every task of every stage, once; those too that are only evaluated."""
        return list(dict.fromkeys(task for stage in self._stages() for task in stage.evaluated()))

    def trained_tasks(self) -> list[str]:
        """Those of them that a stage is for, be it without training."""
        return list(dict.fromkeys(task for stage in self._stages() for task in stage.tasks))

    def _stages(self) -> list[StageConfig]:
        return [stage for stages in self.systems.values() for stage in stages]


def find_experiment(name: str) -> Path:
    """A path as it is; a bare name among the shipped experiments."""
    path = Path(name)
    if path.is_file():
        return path
    folder = shipped("experiments")
    for known in (folder / f"{path.stem}.yaml", folder / path.name):
        if known.is_file() and len(path.parts) <= 2:
            return known
    names = [known.stem for known in folder.glob("*.yaml") if not known.name.endswith(".published.yaml")]
    raise ConfigError(f"{name}: no such file, and {unknown('experiment', path.stem, names)}")


def load_experiment(path: Path, *, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment file, apply its chosen size and the ``--set`` overrides, resolve stage bases.

    :param overrides: ``key.key=value`` with the value in YAML; ``size=NAME`` chooses one of the file's ``sizes``.
    :raises ConfigError: with every fault of the file.
    """
    file = load_yaml(path)
    if not isinstance(file.data, dict):
        raise ConfigError(f"{path}: expected keys and values")
    data: dict[str, Any] = dict(file.data)
    sizes = data.pop("sizes", None) or {}
    for place, key, value in _expanded(overrides, sizes, file):
        known = data.get("stages") or {}
        keys = key.split(".")
        if keys[0] == "stages" and keys[1:] and keys[1] not in known:
            raise ConfigError(f"{place}: {unknown('stage', keys[1], known)}")
        data = _with_value(data, keys, value)
        file.settings[tuple(int(part) if part.isdigit() else part for part in keys)] = place
    known = [*ExperimentConfig.model_fields, "stages", "sizes"]
    if wrong := [key for key in data if key not in known]:
        raise ConfigError(listed([f"{file.where((key,))}: {unknown('key', str(key), known)}" for key in wrong]))
    data["systems"] = _resolve_systems(data, file)
    data.pop("stages", None)
    config = validate(ExperimentConfig, file, data=data)
    config._file = file
    return config


def _expanded(overrides: Sequence[str], sizes: Mapping[str, Any], file: YamlFile) -> list[tuple[str, str, Any]]:
    """Each override as its place, key and value; a size as those that it stands for."""
    found: list[tuple[str, str, Any]] = []
    for key, value in parse_settings(overrides, option="--set", example="train.epochs=2").items():
        if key != "size":
            found.append((f"--set {key}", key, value))
        elif isinstance(sizes, dict) and value in sizes:
            found += [(file.where(("sizes", value, each)), each, inner) for each, inner in sizes[value].items()]
        else:
            raise ConfigError(f"--set size={value}: {unknown('size', str(value), sizes)} in {file.path}")
    return found


def _with_value(data: Any, keys: Sequence[str], value: Any) -> Any:
    """A copy of ``data`` with the value at ``keys``; list positions are numbers."""
    key, *rest = keys
    if isinstance(data, list):
        if not key.isdigit() or int(key) >= len(data):
            raise ConfigError(f"--set: '{key}' is not a position in a list of {len(data)}")
        return [
            _with_value(item, rest, value) if rest and i == int(key) else value if i == int(key) else item
            for i, item in enumerate(data)
        ]
    inner = dict(data) if isinstance(data, dict) else {}
    inner[key] = _with_value(inner.get(key, {}), rest, value) if rest else value
    return inner


def _resolve_systems(data: Mapping[str, Any], file: YamlFile) -> Any:
    """Stages by name or with ``base``, laid over the file's ``stages``."""
    bases = data.get("stages") or {}
    systems = data.get("systems")
    if not isinstance(systems, dict) or not isinstance(bases, dict):
        return systems
    return {
        name: [_resolve_stage(stage, bases, file, ("systems", name, index)) for index, stage in enumerate(stages)]
        if isinstance(stages, list)
        else stages
        for name, stages in systems.items()
    }


def _resolve_stage(stage: Any, bases: Mapping[str, Any], file: YamlFile, key_path: tuple[str | int, ...]) -> Any:
    given = {"base": stage} if isinstance(stage, str) else stage
    if not isinstance(given, dict) or "base" not in given:
        return stage
    name = str(given["base"])
    if name not in bases:
        raise ConfigError(f"{file.where(key_path)}: {unknown('stage', name, bases)}")
    change = {key: value for key, value in given.items() if key != "base"}
    file.bases[key_path] = ("stages", name)
    return {"name": name, **merged(bases[name], change)}
