"""The official repository's ``*_task_def.yml`` (namisan/mt-dnn) as task definitions of ours, one file a task.

Its prepared files, ``<task>_<split>.tsv`` in ``canonical_data``, are read as they are (format ``mtdnn``). Whatever
has no place here is told, never dropped in silence: a task of another kind, a metric, a split, a loss.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mtdnn.errors import ConfigError, faults_of, listed
from mtdnn.schema import validate
from mtdnn.tasks import TaskDef, shipped
from mtdnn.yaml_files import KeyPath, YamlFile, load_yaml

KINDS = {"Classification": "classification", "Regression": "regression", "Ranking": "ranking"}
INPUTS: dict[str, dict[str, str]] = {
    "PremiseOnly": {"text_a": "premise"},
    "PremiseAndOneHypothesis": {"text_a": "premise", "text_b": "hypothesis"},
    "PremiseAndMultiHypothesis": {"text_a": "premise", "candidates": "hypothesis"},
}
METRICS = {
    "classification": {"ACC": "accuracy", "F1": "f1", "MCC": "matthews_corrcoef"},
    "regression": {"Pearson": "pearson", "Spearman": "spearman"},
    "ranking": {"ACC": "hits@1"},
}
SPLIT_WORDS = {"train": ("train",), "validation": ("dev", "valid"), "test": ("test",)}
SPLIT_NAMES = ("train", "dev", "test")
DROPOUT = 0.1  # the official code's, where a task says nothing
CARRIED = ("data_format", "task_type", "n_class", "labels", "metric_meta", "dropout_p", "split_names")
# What the other keys say when they say what is so here anyway; and why else they are left out.
USUAL: dict[str, Mapping[str, Any]] = {
    "loss": {"classification": "CeCriterion", "regression": "MseCriterion", "ranking": "RankCeCriterion"},
    "adv_loss": {"classification": "SymKlCriterion", "regression": "MseCriterion", "ranking": "SymKlCriterion"},
    "enable_san": dict.fromkeys(KINDS.values(), False),
}
REASONS = {
    "loss": "a head has its own loss",
    "kd_loss": "there is no distillation here",
    "adv_loss": "the divergence is an option of the regularizer, in the experiment",
    "enable_san": "there is no answer module here, but a linear head",
    "encoder_type": "the encoder is named in the experiment",
}


@dataclass
class Notes:
    """What is wrong with the file, and what of it could not be carried over."""

    file: YamlFile
    faults: list[str] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, key_path: KeyPath, message: str) -> None:
        self.faults.append(f"{self.file.where(key_path)}: {message}")

    def tell(self, task: str, message: str) -> None:
        self.told.setdefault(message, []).append(task)

    def lines(self) -> list[str]:
        """Every message once, with the tasks that it is about."""
        return [f"{', '.join(tasks)}: {message}" for message, tasks in self.told.items()]


def import_tasks(file: Path, *, folder: Path, overwrite: bool = False) -> tuple[list[Path], list[str]]:
    """Write ``folder/<task>.yaml`` for every task of the file that has a head here.

    :returns: the files, and what was not carried over.
    :raises ConfigError: with every fault of the file, or every definition that is there already; nothing is written.
    """
    notes = Notes(load_yaml(file))
    if not isinstance(notes.file.data, dict) or not notes.file.data:
        raise ConfigError(f"{file}: expected tasks with their keys, as in glue_task_def.yml")
    found = {}
    for name, entry in notes.file.data.items():
        definition = definition_of(str(name), entry, notes)
        if definition is not None:
            path = folder / f"{name}.yaml"
            found[path] = definition
            checked = {**definition, "name": str(name), "folder": folder}
            notes.faults += faults_of(partial(validate, TaskDef, YamlFile(path, checked)))
            if path.exists() and not overwrite:
                notes.faults.append(f"{path} is there already; --overwrite replaces it, --out writes elsewhere")
    if notes.faults:
        raise ConfigError(listed(notes.faults))
    if not found:
        raise ConfigError(f"{file}: no task of it has a head here\n{listed(notes.lines())}")
    _tell_shadows(found, notes)
    folder.mkdir(parents=True, exist_ok=True)
    for path, definition in found.items():
        path.write_text(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    return list(found), notes.lines()


def definition_of(name: str, entry: Any, notes: Notes) -> dict[str, Any] | None:
    """One task as our YAML says it; None when it has no head here (told) or is at fault (noted)."""
    if not isinstance(entry, dict) or re.fullmatch(r"[\w-]+", name) is None:
        notes.fault((name,), f"expected a name of letters, digits and dashes and the task's keys, got {entry!r:.60}")
        return None
    missing = [key for key in ("task_type", "data_format") if not isinstance(entry.get(key), str)]
    if missing:
        notes.fault((name,), f"key '{missing[0]}' is missing, or not a word")
        return None
    reason = _no_head(entry["task_type"], entry["data_format"])
    if reason is not None:
        notes.tell(name, f"not written: {reason}")
        return None
    kind = KINDS[entry["task_type"]]
    _tell_other_keys(name, entry, kind, notes)
    labels = labels_of(name, entry, kind, notes)
    splits = splits_of(name, entry, notes)
    return {
        "version": 1,
        "kind": kind,
        "description": f"Imported from {notes.file.path.name} of the official MT-DNN code by mtdnn tasks import.",
        "data": {"files": layout_of(name, splits)},
        "inputs": INPUTS[entry["data_format"]],
        "target": "label",
        **({"labels": labels} if labels else {}),
        **({"groups": {"column": "group"}} if kind == "ranking" else {}),
        "metrics": metrics_of(name, entry, kind, len(labels), notes),
        "head": {"dropout": dropout_of(name, entry, notes)},
    }


def _no_head(task_type: str, data_format: str) -> str | None:
    """Why a task cannot be had here; None when it can."""
    if task_type not in KINDS:
        return f"task_type: {task_type} has no head here; known: {', '.join(KINDS)}"
    if data_format not in INPUTS:
        return f"data_format: {data_format} is not read here; known: {', '.join(INPUTS)}"
    if (task_type == "Ranking") != (data_format == "PremiseAndMultiHypothesis"):
        return f"task_type: {task_type} with data_format: {data_format}; several hypotheses belong to Ranking"
    return None


def layout_of(name: str, splits: Mapping[str, str]) -> dict[str, Any]:
    """Where the prepared files lie. The official code never reads labels of test files, most of which are made up."""
    layout: dict[str, Any] = {"path": f"{name}_{{split}}.tsv", "format": "mtdnn", "splits": dict(splits), "uid": "uid"}
    return layout | ({"unlabelled": ["test"]} if "test" in splits else {})


def splits_of(name: str, entry: Mapping[str, Any], notes: Notes) -> dict[str, str]:
    """Our split names -> the file's; the first that fits, the others told."""
    given = entry.get("split_names", SPLIT_NAMES)
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        notes.fault((name, "split_names"), f"expected names of splits, got {given!r}")
        return {}
    splits: dict[str, str] = {}
    for each in given:
        ours = next((key for key, words in SPLIT_WORDS.items() if any(word in each for word in words)), None)
        if ours is None or ours in splits:
            notes.tell(name, f"split '{each}' left out; a definition with 'extends: {name}' can name it as its own")
        else:
            splits[ours] = each
    if "test" in splits:
        notes.tell(name, "test split taken as unlabelled, as the official code does; delete 'unlabelled' if it is not")
    return splits


def labels_of(name: str, entry: Mapping[str, Any], kind: str, notes: Notes) -> list[Any]:
    """The label words in id order; numbers where the file has none."""
    if kind == "regression":
        return []
    given, count = entry.get("labels"), 2 if kind == "ranking" else entry.get("n_class")
    if given is None and isinstance(count, int):
        return [{"0": ["0.0"]}, {"1": ["1.0"]}] if kind == "ranking" else [str(index) for index in range(count)]
    if not isinstance(given, list):
        notes.fault((name,), f"expected n_class, a number, or labels, a list; got {count!r} and {given!r}")
        return []
    if count is not None and len(given) != count:
        key = "Ranking needs" if kind == "ranking" else "n_class says"
        notes.fault((name, "labels"), f"{key} {count}, the labels are {len(given)}: {', '.join(map(str, given))}")
    return [str(label) for label in given]


def metrics_of(name: str, entry: Mapping[str, Any], kind: str, num_labels: int, notes: Notes) -> list[str]:
    """The metrics by our names, those that are not here told; the kind's first where none is left."""
    given = entry.get("metric_meta", [])
    if not isinstance(given, list):
        notes.fault((name, "metric_meta"), f"expected a list of metrics, got {given!r}")
        return []
    known = METRICS[kind]
    found = [known[each] for each in given if each in known]
    for each in given:
        if each not in known:
            notes.tell(name, f"metric {each} left out: not here for {kind}; known: {', '.join(known)}")
    if "f1" in found and num_labels > 2:
        found[found.index("f1")] = "f1_macro"
        notes.tell(name, "metric F1 is f1_macro here, as there are more than two labels")
    if kind == "ranking" and found:
        notes.tell(name, "metric ACC is hits@1 here: the share of questions whose best candidate is a right one")
    if not found:
        found = [next(iter(known.values()))]
        notes.tell(name, f"no metric is left: {found[0]} is in their place")
    return list(dict.fromkeys(found))


def dropout_of(name: str, entry: Mapping[str, Any], notes: Notes) -> float:
    """The head's dropout, in [0, 1)."""
    given = entry.get("dropout_p", DROPOUT)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1:
        notes.fault((name, "dropout_p"), f"expected a number from 0 to below 1, got {given!r}")
        return DROPOUT
    return float(given)


def _tell_other_keys(name: str, entry: Mapping[str, Any], kind: str, notes: Notes) -> None:
    for key, value in entry.items():
        if key in CARRIED or (key in USUAL and value == USUAL[key][kind]):
            continue
        notes.tell(name, f"{key}: {value} left out: {REASONS.get(key, 'not a key that is known here')}")


def _tell_shadows(paths: Iterable[Path], notes: Notes) -> None:
    for path in paths:
        if (shipped("task_defs") / path.name).exists() and path.parent.resolve() != shipped("task_defs").resolve():
            notes.tell(path.stem, f"stands before the shipped task of that name wherever {path.parent} is used")
