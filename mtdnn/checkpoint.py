"""Checkpoints: atomic, checksummed, free of pickle, complete.

A checkpoint is a folder ``step-<n>`` with ``state.json``, one ``<part>.safetensors`` a part (model, optimizer, each
regularizer) and ``manifest.json``, which holds the SHA-256 of every other file. It is written in a staged folder,
flushed to disk and renamed, so that a folder with that name is whole; it is verified when it is read.
"""

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from mtdnn.errors import CheckpointError
from mtdnn.files import UNREADABLE, flush, verify_manifest, write_json, write_manifest, writing

FORMAT = 1
NAME = re.compile(r"step-(\d{8})")

Parts = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on: its numbers (JSON) and its tensors, by part."""

    step: int
    state: dict[str, Any]
    parts: Parts


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 2, best: int | None = None) -> None:
    """Write ``folder/step-<n>`` and delete older ones, but never the last ``keep`` nor the ``best`` step's.

    :raises StorageError: when the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    final = folder / f"step-{checkpoint.step:08d}"
    staged = folder / f".staged-{final.name}"
    try:
        with writing(final, num_bytes=num_bytes(checkpoint.parts)):
            _write(checkpoint, staged)
            replaced = folder / f".replaced-{final.name}"
            if final.exists():
                final.rename(replaced)
            staged.rename(final)
            flush(folder)
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    kept = {path for _, path in list_checkpoints(folder)[:keep]} | {folder / f"step-{best or 0:08d}"}
    for _, path in list_checkpoints(folder):
        if path not in kept:
            path.rename(folder / f".deleted-{path.name}")
    for path in folder.glob(".deleted-*"):
        shutil.rmtree(path, ignore_errors=True)


def _write(checkpoint: Checkpoint, staged: Path) -> None:
    """All files, on the disk before the folder is renamed."""
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for name, tensors in checkpoint.parts.items():
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, staged / f"{name}.safetensors")
    write_json(staged / "state.json", {"step": checkpoint.step, **checkpoint.state})
    write_manifest(staged, format=FORMAT)


def num_bytes(parts: Parts) -> int:
    return sum(tensor.numel() * tensor.element_size() for part in parts.values() for tensor in part.values())


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of the complete checkpoints, newest first."""
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is work to go on from."""
    return any(folder.glob("step-*")) or any(folder.glob(".replaced-step-*"))


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is intact; None when there is none at all.

    One that a kill left half replaced counts too. A damaged one is passed over with a warning that names the damage.
    """
    faults = []
    for path in [*(path for _, path in list_checkpoints(folder)), *folder.glob(".replaced-step-*")]:
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        if faults:
            warnings.warn(f"{'; '.join(faults)}. Going on from {path}", stacklevel=2)
        return loaded
    if faults:
        raise CheckpointError(f"no intact checkpoint in {folder}: {'; '.join(faults)}. Delete the folder to start anew")
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint, every file checked against the manifest; CheckpointError where it cannot be read."""
    verify_manifest(path, format=FORMAT)
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        parts = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        return Checkpoint(step=state.pop("step"), state=state, parts=parts)
    except UNREADABLE as error:
        raise CheckpointError(f"{path} holds something else than a checkpoint: {str(error)[:300]}") from error


def optimizer_parts(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimizer's state as tensors by ``<parameter>.<name>``, and its groups as JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, state["param_groups"]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """What an optimizer remembers of the weights; rates, decay and momenta stay as they were asked for.

    :raises ValueError: when the weights are grouped in another way.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    own = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in own] != [group["params"] for group in groups]:
        raise ValueError("the weights are grouped in another way")
    optimizer.load_state_dict({"state": state, "param_groups": own})


def restore_schedule(schedule: LambdaLR, state: Mapping[str, Any]) -> None:
    """Where a schedule was; the rates there are those of its own full rates and steps."""
    factors = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    rates = [float(base) * factor(state["last_epoch"]) for base, factor in factors]
    own = {"base_lrs": schedule.base_lrs, "_last_lr": rates}
    schedule.load_state_dict({**schedule.state_dict(), **state, **own})
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
