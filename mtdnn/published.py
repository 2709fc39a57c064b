"""What a paper printed, as data beside the experiment that repeats it: ``<experiment>.published.yaml``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mtdnn.config import ExperimentConfig, Share, find_experiment, load_experiment
from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.schema import Strict, validate
from mtdnn.tasks import Split, TaskDef, TaskRegistry, load_tasks, shipped
from mtdnn.yaml_files import YamlFile, load_yaml

TRAIN_MINUTES = "train_minutes"  # beside a task's metrics: how long its training took
Text = Annotated[str, Field(min_length=1)]


class Entry(Strict):
    """One printed number, named as the experiment names what it belongs to; see :class:`Figure`."""

    system: str
    task: str
    split: Split | None = None
    metric: str
    fraction: Share | None = None
    value: float
    encoder: str | None = None
    note: str = ""


class Published(Strict):
    """A file of figures.

    :param source: paper and table, so that the number can be looked up.
    :param encoder: of the figures that name none, a hub id.
    :param split: of the figures that name none.
    :param notes: what a reader of the comparison must know, the paper's own slips among it.
    """

    source: Text
    encoder: Text
    split: Split | None = None
    notes: list[Text] = []
    figures: list[Entry]


@dataclass(frozen=True)
class Figure:
    """One published number.

    :param system: of the experiment beside which it stands.
    :param metric: one of the task's, with the value times 100 as printed; or ``train_minutes``.
    :param fraction: of the training data; None for all of it.
    """

    system: str
    task: str
    split: Split
    metric: str
    fraction: float | None
    value: float
    source: str
    note: str
    encoder: str


@dataclass(frozen=True)
class Offer:
    """What an experiment can be asked for, at any of its sizes."""

    system: str
    task: str
    fraction: float | None


def load_published(experiment: Path | str, *, registry: TaskRegistry | None = None) -> list[Figure]:
    """The published figures of an experiment, or none where no file stands beside it.

    :param experiment: a path, or the name of a shipped one.
    :param registry: the tasks; by default the shipped ones.
    :raises ConfigError: with every fault of the file.
    """
    found = read_published(experiment, registry=registry)
    return [] if found is None else figures_of(found)


def figures_of(published: Published) -> list[Figure]:
    """Each with what it shares with the others of its file."""
    return [_figure(entry, published) for entry in published.figures]


def kept_published(config: ExperimentConfig, registry: TaskRegistry) -> dict[str, Any] | None:
    """What a run keeps of its experiment's figures: the file's content; None where there is none.

    :raises ConfigError: with every fault of the file.
    """
    found = None if config.path is None else read_published(config.path, registry=registry)
    return None if found is None else found.model_dump(mode="json", exclude_defaults=True)


def shipped_published(experiment: str) -> Published | None:
    """The figures beside a shipped experiment; None for another one.

    :param experiment: its name, as it stands in the file.
    """
    path = shipped("experiments") / f"{experiment.replace('-', '_')}.yaml"
    return read_published(path) if path.is_file() else None


def read_published(experiment: Path | str, *, registry: TaskRegistry | None = None) -> Published | None:
    """The same file with its notes, as it was written."""
    path = find_experiment(str(experiment))
    beside = path.with_name(f"{path.stem}.published.yaml")
    if not beside.is_file():
        return None
    file = load_yaml(beside)
    published = validate(Published, file)
    faults = list(_faults(file, published, offers_of(path), load_tasks() if registry is None else registry))
    if faults:
        raise ConfigError(listed(faults))
    return published


def offers_of(path: Path) -> list[Offer]:
    """Every system, task and fraction of an experiment file, at each of its sizes."""
    sizes = load_yaml(path).data.get("sizes") or {}
    configs = [load_experiment(path, overrides=chosen) for chosen in ([], *([f"size={size}"] for size in sizes))]
    offers = (
        Offer(system, task, fraction)
        for config in configs
        for system, stages in config.systems.items()
        for stage in stages
        for task in stage.evaluated()
        for fraction in (stage.fractions or (None,))
    )
    return list(dict.fromkeys(offers))


def _figure(entry: Entry, file: Published) -> Figure:
    split = entry.split or file.split
    assert split is not None, "read_published() refuses a figure without a split"
    return Figure(
        system=entry.system,
        task=entry.task,
        split=split,
        metric=entry.metric,
        fraction=entry.fraction,
        value=entry.value,
        source=file.source,
        note=entry.note,
        encoder=entry.encoder or file.encoder,
    )


def _faults(file: YamlFile, published: Published, offers: Sequence[Offer], tasks: TaskRegistry) -> Iterator[str]:
    if not published.figures and not published.notes:
        yield f"{file.where(('figures',))}: no figures; give some, or say in notes why there are none"
    first: dict[tuple[Any, ...], int] = {}
    for index, entry in enumerate(published.figures):
        place = ("figures", index)
        for key, fault in (*_name_faults(entry, offers, tasks), *_number_faults(entry, tasks)):
            yield f"{file.where((*place, key))}: {fault}"
        split = entry.split or published.split
        if split is None:
            yield f"{file.where(place)}: key 'split' is missing, here or at the top of the file"
        encoder = entry.encoder or published.encoder
        same = (entry.system, entry.task, split, entry.metric, entry.fraction, encoder)
        if first.setdefault(same, index) != index:
            earlier = file.where(("figures", first[same]))
            yield f"{file.where(place)}: the same figure as {earlier}; keep one"


def _name_faults(entry: Entry, offers: Sequence[Offer], tasks: Mapping[str, TaskDef]) -> Iterator[tuple[str, str]]:
    """What the experiment does not have, by key."""
    own = [offer for offer in offers if offer.system == entry.system]
    if not own:
        yield "system", unknown("system", entry.system, {offer.system for offer in offers})
    if entry.task not in tasks:
        yield "task", unknown("task", entry.task, tasks)
        return
    alike = [offer for offer in own if offer.task in tasks and tasks[offer.task].can_answer(tasks[entry.task])]
    asked = [offer for offer in own if offer.task == entry.task] or alike
    if own and not asked:
        yield "task", f"'{entry.system}' has " + unknown("task", entry.task, {offer.task for offer in own})
    fractions = {offer.fraction for offer in asked}
    if asked and entry.fraction not in fractions:
        known = [f"{each:g}" for each in fractions if each is not None]
        given = "none" if entry.fraction is None else f"{entry.fraction:g}"
        yield "fraction", f"'{entry.system}' has for '{entry.task}' " + unknown("fraction", given, known)


def _number_faults(entry: Entry, tasks: Mapping[str, TaskDef]) -> Iterator[tuple[str, str]]:
    if entry.metric == TRAIN_MINUTES:
        if entry.value <= 0:
            yield "value", f"minutes are above 0, got {entry.value:g}"
        return
    if entry.task in tasks and entry.metric not in tasks[entry.task].metrics:
        yield "metric", unknown(f"metric of '{entry.task}'", entry.metric, [*tasks[entry.task].metrics, TRAIN_MINUTES])
    if not -100 <= entry.value <= 100:
        yield "value", f"a metric times 100 lies within -100 and 100, got {entry.value:g}"
