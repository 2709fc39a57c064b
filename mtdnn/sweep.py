"""Searches the values of an experiment's keys with Optuna: trials are ordinary runs, judged by the mean of seeds.

Akiba et al., 2019, "Optuna". https://arxiv.org/abs/1907.10902. The sampler is TPE (Bergstra et al., 2011).

What is drawn for a trial is a function of the seed, its number and the trials before it, and a trial is stored when it
has ended: one that was cut off is drawn again, the same, and its run goes on from its checkpoint.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock

from mtdnn.cell_folder import differences
from mtdnn.config import ExperimentConfig, load_experiment
from mtdnn.data_store import digest
from mtdnn.errors import (
    BusyError,
    ConfigError,
    DataError,
    EncoderError,
    MtdnnError,
    RunError,
    StorageError,
    faults_of,
    listed,
    unknown,
)
from mtdnn.experiment import Experiment, check_experiment
from mtdnn.files import alone, read_json, write_json_atomically
from mtdnn.plan import Cell
from mtdnn.rng import seed_of
from mtdnn.runner import Executor, Here
from mtdnn.search_space import SearchSpace, Span, overrides_of
from mtdnn.tasks import TaskRegistry
from mtdnn.yaml_files import YamlFile

log = logging.getLogger(__name__)
JOURNAL, RESULTS, INPUTS = "journal.log", "results.json", "inputs.json"
ENDS_ALL = {each.exit_code for each in (DataError, EncoderError, StorageError, BusyError)}  # no trial would do better


class Sweep:
    """A search over an experiment.

    :param experiment: its file.
    :param space: what is tried; ``file`` is where it was read.
    :param out: the sweep's folder; the trials' runs are below ``trials/``.
    :param overrides: ``key=value`` laid over the experiment in every trial.
    :param executor: makes the place where the cells of a trial are trained; by default this process.
    :raises ConfigError: when Optuna is not installed, or a key or value does not fit the experiment.
    """

    def __init__(
        self,
        experiment: Path,
        space: SearchSpace,
        file: YamlFile,
        *,
        registry: TaskRegistry,
        out: Path,
        overrides: Sequence[str] = (),
        data_dir: Path | None = None,
        executor: Callable[[], Executor] = Here,
    ):
        self.optuna = optuna()
        self.experiment, self.space, self.file = experiment, space, file
        self.registry, self.out, self.overrides, self.data_dir = registry, out, list(overrides), data_dir
        self.executor = executor
        check_experiment(self.config({}), registry)
        self.check_keys()
        self.judged(self.job({}))

    def config(self, params: Mapping[str, Any]) -> ExperimentConfig:
        return load_experiment(self.experiment, overrides=[*self.overrides, *overrides_of(params)])

    def job(self, params: Mapping[str, Any]) -> Experiment:
        """The run of a trial; equal values share a folder."""
        return Experiment(self.config(params), self.registry, out=self.folder(params), data_dir=self.data_dir)

    def folder(self, params: Mapping[str, Any]) -> Path:
        return self.out / "trials" / digest(sorted(overrides_of(params)))

    def check_keys(self) -> None:
        """That the experiment takes every listed value and both ends of every range: each key's first fault."""

        def tried(key: str, text: str) -> None:
            check_experiment(self.config({key: text}), self.registry)

        faults = []
        for key, span in self.space.space.items():
            found = ((text, fault) for text in span.texts for fault in faults_of(partial(tried, key, text)))
            faults += [f"{self.file.where(('space', key))}={text}: {fault}" for text, fault in islice(found, 1)]
        if faults:
            raise ConfigError(listed(faults))

    def judged(self, job: Experiment) -> list[Cell]:
        """The cells whose validation results are a trial's score."""
        systems, system = job.config.systems, self.space.system
        if system is None and len(systems) > 1:
            raise ConfigError(f"{self.file.path}: system is missing; say whose results count: {', '.join(systems)}")
        system = system or next(iter(systems))
        if system not in systems:
            raise ConfigError(f"{self.file.where(('system',))}: {unknown('system', system, systems)}")
        names = [stage.name for stage in systems[system]]
        stage = self.space.stage or names[-1]
        if stage not in names:
            raise ConfigError(f"{self.file.where(('stage',))}: {unknown('stage', stage, names)}")
        cells = [cell for cell in job.cells if (cell.system, cell.stage.name) == (system, stage)]
        for task in dict.fromkeys(task for cell in cells for task in cell.tasks):
            if not job.data.labelled(task, "validation"):
                raise ConfigError(f"task '{task}' has no labelled validation split here to judge trials by")
        if "validation" not in job.config.data.eval_splits:
            raise ConfigError(
                f"{job.config.place('data', 'eval_splits')}: trials are judged by validation; name it too"
            )
        return cells

    def run(self, *, on_trial: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Do the trials that are missing; all trials and the best one, which are also written to ``results.json``.

        :raises RunError: when no trial has a score.
        """
        with alone(self.out):
            self.check_folder()
            study = self.study()
            while (number := len(study.get_trials(deepcopy=False))) < self.space.trials:
                params = self.suggest(study, number)
                log.info("trial %d of %d: %s", number + 1, self.space.trials, " ".join(overrides_of(params)))
                study.add_trial(self.trial(params))
                told = self.write(study)
                if on_trial is not None:
                    on_trial(told["trials"][-1])
            found = self.write(study)
        if found["best"] is None:
            raise RunError(
                f"{self.out}: none of {len(found['trials'])} trials has a score: {found['trials'][-1]['error']}"
            )
        return found

    def check_folder(self) -> None:
        """That trials which are there are of this experiment, space, data and seed."""
        job = self.job({})
        inputs = {str(cell): job.inputs(cell) for cell in self.judged(job)}
        here = {"space": self.space.model_dump(exclude={"trials"}), "cells": inputs}
        path = self.out / INPUTS
        changed = differences(read_json(path, default=here), here)
        if changed:
            told = "; ".join(map(str, changed[:5]))
            raise ConfigError(
                f"{self.out} holds the trials of another sweep: {told}. Give another --out, or restore it"
            )
        write_json_atomically(path, here)

    def study(self) -> Any:
        """Optuna's study of the trials that have ended."""
        path = self.out / JOURNAL
        drop_torn_line(path)
        storages = self.optuna.storages
        backend = storages.journal.JournalFileBackend(str(path), lock_obj=Lock(path))
        storage = storages.JournalStorage(backend)
        return self.optuna.create_study(study_name="sweep", storage=storage, direction="maximize", load_if_exists=True)

    def suggest(self, study: Any, number: int) -> dict[str, Any]:
        """The values of a trial."""
        sampler = self.optuna.samplers.TPESampler(seed=seed_of(f"sweep/{self.space.seed}/{number}") % 2**32)
        drawn = self.optuna.create_study(direction="maximize", sampler=sampler)
        drawn.add_trials(study.get_trials(deepcopy=False))
        params: dict[str, Any] = drawn.ask(self.distributions()).params
        return params

    def distributions(self) -> dict[str, Any]:
        return {key: distribution(self.optuna.distributions, span) for key, span in self.space.space.items()}

    def trial(self, params: Mapping[str, Any]) -> Any:
        """Run a trial; one that fails is kept with the reason.

        :raises MtdnnError: where every other trial would fail as well.
        """
        facts: dict[str, Any] = {"folder": self.folder(params).name}
        score = math.nan
        try:
            by_seed = self.scores(params)
            score = fmean(by_seed.values())
            facts["scores"] = {str(seed): value for seed, value in by_seed.items()}
            facts["error"] = None if math.isfinite(score) else f"the score is {score}"
        except MtdnnError as error:
            if error.exit_code in ENDS_ALL:
                raise
            log.warning("the trial failed: %s", error)
            facts["error"] = str(error)
        kinds = self.optuna.trial
        state = kinds.TrialState.COMPLETE if math.isfinite(score) else kinds.TrialState.FAIL
        chosen = {"params": dict(params), "distributions": self.distributions(), "user_attrs": facts}
        return kinds.create_trial(state=state, value=score if math.isfinite(score) else None, **chosen)

    def scores(self, params: Mapping[str, Any]) -> dict[int, float]:
        """By seed, the mean over tasks (and fractions) of the first metric on validation."""
        job = self.job(params)
        cells = self.judged(job)
        job.run(executor=self.executor(), chosen=cells)
        found: dict[int, list[float]] = defaultdict(list)
        for cell in cells:
            result = job.result(cell)
            assert result is not None, "run() raises where a cell has none"
            for task in cell.tasks:
                values = result["metrics"][task]["validation"]["values"]
                found[cell.seed].append(values[self.registry[task].metrics[0]])
        return {seed: fmean(values) for seed, values in found.items()}

    def write(self, study: Any) -> dict[str, Any]:
        trials = [told(trial) for trial in study.get_trials(deepcopy=False)]
        scored = [trial for trial in trials if trial["value"] is not None]
        best = max(scored, key=lambda trial: trial["value"], default=None)
        found = {"trials": trials, "best": best}
        write_json_atomically(self.out / RESULTS, found)
        return found


def told(trial: Any) -> dict[str, Any]:
    """A trial as ``results.json`` has it; ``overrides`` can be given to ``--set``."""
    return {
        "number": trial.number,
        "value": trial.value,
        "overrides": overrides_of(trial.params),
        "scores": trial.user_attrs.get("scores", {}),
        "folder": f"trials/{trial.user_attrs['folder']}",
        "error": trial.user_attrs.get("error"),
    }


def optuna() -> Any:
    """Optuna's module, quiet; ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("mtdnn sweep needs Optuna: pip install 'mtdnn[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def distribution(kinds: Any, span: Span) -> Any:
    """A key's values for Optuna: listed ones as texts, which may stand for lists and mappings."""
    if span.values is not None:
        return kinds.CategoricalDistribution(span.texts)
    whole = isinstance(span.low, int) and isinstance(span.high, int)
    kind = kinds.IntDistribution if whole else kinds.FloatDistribution
    return kind(span.low, span.high, log=span.log)


class Lock:
    """The journal's lock, which a killed process leaves open."""

    def __init__(self, path: Path):
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def drop_torn_line(path: Path) -> None:
    """Cut off what a crash left of a line that was being written."""
    if path.is_file():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)
