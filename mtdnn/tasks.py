"""What a task is: one YAML file in ``task_defs/``, read into one :class:`TaskDef`."""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mtdnn.errors import MAX_NAME, ConfigError, listed, unknown
from mtdnn.schema import Strict, validate
from mtdnn.yaml_files import YamlFile, dotted, load_yaml

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
LAYOUTS = ("hub", "files", "generated")
NAME_RULE = "is empty, longer than 100 characters, or holds a dot, a slash or what cannot be printed"


class Inputs(Strict):
    """Model input -> column. ``candidates`` names the column that holds one candidate's text per row."""

    text_a: str
    text_b: str | None = None
    candidates: str | None = None

    @property
    def second(self) -> str | None:
        """The column of the second text of a row's pair."""
        return self.candidates or self.text_b

    def columns(self) -> list[str]:
        return [self.text_a] + ([self.second] if self.second else [])


class Layout(Strict):
    """How one source lays the data out, and how it differs from the task's own ``inputs`` and ``target``.

    :param splits: our split name -> the source's; only declared splits exist. Slices and sums as in ``datasets``.
    :param unlabelled: our split names that carry no labels.
    :param ignore_targets: target values whose rows carry no gold label; those rows are left out and counted.
    :param holdout: for data in one piece: the share of units that is validation, and as much again test, chosen by a
        hash of the unit's texts, so that equal texts stay together.
    """

    splits: dict[str, str] = {"train": "train", "validation": "validation", "test": "test"}
    unlabelled: list[Split] = []
    ignore_targets: list[str | int | float] = []
    inputs: Inputs | None = None
    target: str | None = None
    group: str | None = None
    uid: str | None = None
    holdout: Annotated[float, Field(gt=0, lt=0.5)] | None = None

    @model_validator(mode="after")
    def _known_splits(self) -> "Layout":
        for name in self.splits:
            if name not in SPLITS:
                raise ValueError(unknown("split", name, SPLITS))
        for name, place in self.splits.items():
            if place.startswith("/") or ".." in place.replace("\\", "/").split("/"):
                raise ValueError(f"splits.{name}: '{place}' leaves the data folder; say it in path")
        return self


class HubLayout(Layout):
    """Arguments of :func:`datasets.load_dataset`."""

    path: str
    name: str | None = None
    revision: str | None = None


class FilesLayout(Layout):
    """Files below ``--data-dir`` (or below the definition's own folder): ``{split}`` stands for the source's split.

    :param format: by default what the file's name says; ``mtdnn`` for the official MT-DNN code's prepared files.
    """

    path: str
    format: Literal["jsonl", "csv", "tsv", "parquet", "mtdnn"] | None = None


class GeneratedLayout(Layout):
    """A corpus of :mod:`mtdnn.testing.corpus`, made on the spot: no hub, no file."""

    corpus: str
    sizes: dict[str, int] = {}


class Data(Strict):
    hub: HubLayout | None = None
    files: FilesLayout | None = None
    generated: GeneratedLayout | None = None
    full_size: Annotated[int, Field(gt=0)] | None = None


class Groups(Strict):
    """Ranking: the rows of a group are one question's candidates.

    :param column: the column that candidates of one question share.
    :param no_right: what to do with a group without a right answer.
    :param max_candidates: training keeps the right answers and a seeded sample of the wrong ones up to this number.
    """

    column: str
    no_right: Literal["error", "drop"] = "error"
    max_candidates: Annotated[int, Field(ge=2)] = 30


class TaskDef(Strict):
    """One supervised task.

    :param name: the file's stem; the name used in experiments, checkpoints and results.
    :param version: raised whenever the definition changes what is learned or measured.
    :param kind: the head's name.
    :param labels: class names in id order; a one-key mapping gives a name its aliases.
    :param range: lowest and highest score of a regression task; anything outside is a fault.
    :param metrics: names of registered metrics; the first selects checkpoints.
    :param head: options of the head.
    :param folder: where the definition lies; relative file paths start there when no data folder is given.
    """

    name: str
    version: int
    kind: str
    description: str = ""
    citation: str = ""
    license: str = "unknown"
    data: Data
    inputs: Inputs
    target: str
    labels: list[str | dict[str, list[str]]] = []
    range: list[float] | None = None
    groups: Groups | None = None
    metrics: Annotated[list[str], Field(min_length=1)]
    head: dict[str, Any] = {}
    folder: Annotated[Path, Field(exclude=True)] = Path()

    @model_validator(mode="after")
    def _consistent(self) -> "TaskDef":
        if not is_task_name(self.name):
            raise ValueError(f"name: {self.name[:100]!r} {NAME_RULE}; call the file otherwise")
        for label in self.labels:
            if isinstance(label, dict) and len(label) != 1:
                raise ValueError(f"labels: an entry with aliases is one name and its list, got {label}")
        words = [word for words in self.label_words for word in words]
        twice = sorted({word for word in words if words.count(word) > 1})
        if twice:
            raise ValueError(f"labels: {twice} stand twice")
        if self.range is not None and (len(self.range) != 2 or self.range[0] >= self.range[1]):
            raise ValueError(f"range: expected [lowest, highest], got {self.range}")
        if (self.inputs.candidates is None) != (self.groups is None):
            raise ValueError("inputs.candidates and groups belong together: one column of candidates, one of groups")
        return self

    @property
    def label_words(self) -> tuple[tuple[str, ...], ...]:
        """Per class: its name, then its aliases."""
        return tuple(
            (label,) if isinstance(label, str) else next((k, *v) for k, v in label.items()) for label in self.labels
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(words[0] for words in self.label_words)

    @property
    def head_type(self) -> str:
        """The head's name: the kind's, or that of another head for the same kind of task."""
        return str(self.head.get("type", self.kind))

    def can_answer(self, other: "TaskDef") -> bool:
        """Whether a head of this task gives another's answers, as MNLI's those to the mismatched genres."""
        own, wanted = ((each.head_type, each.label_names, each.range) for each in (self, other))
        return own == wanted

    def layout(self, name: str | None = None) -> Layout:
        """The layout called ``name``; without a name the first one that is there (generated, hub, files)."""
        names = (name,) if name else ("generated", "hub", "files")
        for each in names:
            layout: Layout | None = getattr(self.data, each)
            if layout is not None:
                return layout
        here = [each for each in LAYOUTS if getattr(self.data, each) is not None]
        raise ConfigError(f"task '{self.name}' has no '{name}' layout under data:; it has {', '.join(here) or 'none'}")

    def layouts(self) -> list[Layout]:
        """Every layout that is there."""
        return [layout for name in LAYOUTS if (layout := getattr(self.data, name)) is not None]

    def columns(self, layout: Layout) -> Inputs:
        return layout.inputs or self.inputs


def is_task_name(name: str) -> bool:
    """Whether a name can stand for a file and a module, and for no other folder."""
    return bool(name) and name.isprintable() and len(name) <= MAX_NAME and not set("./\\") & set(name)


class TaskRegistry(Mapping[str, TaskDef]):
    """Every task of one or more folders; a later folder's task replaces an earlier one's of the same name."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = list(folders)
        self._tasks: dict[str, TaskDef] = {}
        faults: list[str] = []
        for folder in self.folders:
            if not folder.is_dir():
                faults.append(f"{folder}: no such folder of task definitions")
            for path in sorted(folder.glob("*.yaml")):
                try:
                    self._tasks[path.stem] = read_task(path)
                except ConfigError as error:
                    faults.append(str(error))
        if faults:
            raise ConfigError("\n".join(faults))

    def __getitem__(self, name: str) -> TaskDef:
        return self._tasks[name]

    def __iter__(self) -> Any:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def find(self, name: str, *, where: str) -> TaskDef:
        """The task called ``name``, or a ConfigError that suggests the nearest one."""
        if name not in self._tasks:
            own = "" if len(self.folders) > 1 else ". No folder task_defs is here; --task-defs names that of your tasks"
            raise ConfigError(f"{where}: {unknown('task', name, self._tasks)}{own}")
        return self._tasks[name]


def shipped(folder: str) -> Path:
    """``task_defs`` or ``experiments`` as shipped: inside the installed package, or beside it in a checkout."""
    inside = Path(str(resources.files("mtdnn"))) / folder
    return inside if inside.is_dir() else inside.parent.parent / folder


def task_folder(given: Path | None) -> Path | None:
    """The folder that was given; else ``./task_defs`` where that is the user's own and not the shipped one."""
    own = Path("task_defs")
    if given is None and own.is_dir() and own.resolve() != shipped("task_defs").resolve():
        return own
    return given


def load_tasks(folder: Path | None = None) -> TaskRegistry:
    """The shipped tasks, and those of ``folder`` on top of them."""
    return TaskRegistry([shipped("task_defs"), *([folder] if folder else [])])


def read_task(path: Path) -> TaskDef:
    """Read one definition, ``extends`` resolved. ConfigError lists all its faults."""
    file = load_yaml(path)
    if isinstance(file.data, dict):
        file.data = {**_extended(file, seen=(path.stem,)), "name": path.stem, "folder": path.parent.resolve()}
    return validate(TaskDef, file)


def places(task: TaskDef) -> Callable[..., str]:
    """Tells where a key of the definition stands: its file and line, or the task's name where there is no file."""
    path = task.folder / f"{task.name}.yaml"
    if task.folder == Path() or not path.is_file():
        return lambda *key_path: f"task '{task.name}': {dotted(key_path)}"
    file = load_yaml(path)
    return lambda *key_path: file.where(key_path)


def _extended(file: YamlFile, *, seen: tuple[str, ...]) -> dict[str, Any]:
    data = dict(file.data)
    base = data.pop("extends", None)
    if base is None:
        return data
    path = file.path.parent / f"{base}.yaml"
    if not path.is_file():
        path = shipped("task_defs") / f"{base}.yaml"
    where = file.where(("extends",))
    if not isinstance(base, str) or not path.is_file() or Path(base).name != base:
        raise ConfigError(f"{where}: {unknown('task', str(base), [p.stem for p in file.path.parent.glob('*.yaml')])}")
    if base in seen:
        raise ConfigError(f"{where}: '{base}' extends itself by way of {' -> '.join(seen)}")
    return merged(_extended(load_yaml(path), seen=(*seen, base)), data)


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``change`` laid over ``base``: mappings merge, everything else replaces, None removes."""
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def check_names(tasks: Sequence[str], registry: TaskRegistry, *, where: str) -> list[TaskDef]:
    """The named tasks; every unknown name in one ConfigError."""
    faults, found = [], []
    for index, name in enumerate(tasks):
        try:
            found.append(registry.find(name, where=f"{where}[{index}]"))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError(listed(faults))
    return found
