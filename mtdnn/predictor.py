"""A trained model on new texts: evaluate a split, predict a file or rows in memory."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from mtdnn import encoder as enc
from mtdnn.data.batch import Batch, pad_columns, pad_rows
from mtdnn.data.rows import BadRows
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import Encoded, load_split
from mtdnn.data.units import Texts
from mtdnn.errors import ConfigError, DataError, faults_of, listed, unknown
from mtdnn.evaluate import Evaluation, evaluate
from mtdnn.heads.base import Head
from mtdnn.memory import memory_for
from mtdnn.model import MultiTaskModel, check_input, check_labels, load_model
from mtdnn.new_texts import PLACE, NewTexts, texts_of, windows
from mtdnn.optim import Precision, in_precision
from mtdnn.tasks import TaskDef

# Of the rows that are encoded together, padding included: what stays in a processor's cache, and what fills a GPU.
BATCH_TOKENS, GPU_BATCH_TOKENS = {"cpu": 1024}, 32768
ALL = "all"
TOKENIZERS: WeakKeyDictionary[MultiTaskModel, Any] = WeakKeyDictionary()  # of the models that were asked themselves


@dataclass(frozen=True)
class Reading:
    """What one task reads of some texts.

    :param columns: the head's numbers of each token of each row.
    """

    task: TaskDef
    head: Head
    columns: dict[str, list[list[int]]]


@dataclass(frozen=True)
class Predictor:
    """A model and its tokenizer.

    :param model: in evaluation mode, on the device it computes on.
    :param precision: of predictions: ``fp32``, ``bf16``, or ``auto`` for what the hardware multiplies fastest.
    """

    model: MultiTaskModel
    tokenizer: Any
    precision: Precision = "fp32"

    @classmethod
    def load(cls, folder: Path | str, *, precision: Precision = "fp32") -> "Predictor":
        """From a run's ``model`` folder; on the GPU where there is one."""
        folder = Path(folder)
        model = load_model(folder).eval()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = enc.load_tokenizer(str(folder))
        check_input(model, tokenizer, max_length=model.config.encoder_max_length, where=str(folder))
        return cls(model.to(device), tokenizer, precision)

    @classmethod
    def of(cls, model: MultiTaskModel) -> "Predictor":
        """Of a model with the tokenizer that lies in the folder from which ``from_pretrained`` read it.

        :raises ConfigError: when the model was not read from a folder.
        :raises CheckpointError: when the tokenizer there is not the one that the model was trained with.
        """
        if (tokenizer := TOKENIZERS.get(model)) is None:
            if not model.name_or_path:
                raise ConfigError(
                    "this model was not read from a folder that has its tokenizer; use Predictor(model, tokenizer)"
                )
            tokenizer = enc.load_tokenizer(model.name_or_path)
            check_input(model, tokenizer, max_length=model.config.encoder_max_length, where=model.name_or_path)
            TOKENIZERS[model] = tokenizer
        return cls(model, tokenizer)

    def task(self, name: str) -> TaskDef:
        if name not in self.model.task_defs:
            raise ConfigError(f"--task: {unknown('task of this model', name, self.model.task_defs)}")
        return self.model.task_defs[name]

    def evaluate(
        self, definition: TaskDef, split: str, *, data_dir: Path | None = None, remap_labels: bool = False
    ) -> Evaluation:
        """Metrics and predictions on a labelled split.

        :param remap_labels: put the head's rows in the order of the definition's labels first.
        :raises CheckpointError: when the definition's labels are not those that the model was trained with.
        """
        saved = self.task(definition.name)
        if remap_labels:
            self.model.remap_labels(definition)
        else:
            check_labels(definition, saved)
        trained = self.task(definition.name)
        as_trained = {"head": trained.head, "range": trained.range, "groups": trained.groups}
        source = find_source(definition.model_copy(update=as_trained), split, data_dir=data_dir)
        data = load_split(
            source, self.model.head(definition.name), self.tokenizer, max_length=self.model.config.encoder_max_length
        )
        pad_id, precision = self.tokenizer.pad_token_id, self.precision
        found = evaluate(self.model, data, pad_id=pad_id, precision=precision, metrics=definition.metrics)
        if not found.metrics:
            raise DataError(f"task '{definition.name}': split '{split}' has no labels; use mtdnn predict")
        return found

    def tasks(self, names: Sequence[str] | None = None) -> list[TaskDef]:
        """The definitions of the named tasks.

        :param names: ``all`` are all that the model has a head for; None is its only one.
        :raises ConfigError: when it has no head for one, or None was given and it has several.
        """
        known = self.model.task_defs
        if names is None and len(known) > 1:
            raise ConfigError(f"--task: the model has several: {', '.join(sorted(known))}; name some of them, or all")
        if names is None or list(names) == [ALL]:
            return list(known.values())
        return [self.task(name.strip()) for name in names]

    def predict_file(
        self, path: Path, *, tasks: Sequence[str], format: str | None = None, bad_rows: BadRows = "stop"
    ) -> Iterator[dict[str, Any]]:
        """One mapping per row of the file, in its order: each task's prediction. For any number of rows.

        Columns are named as in the task's definition (or ``text_a``, ``text_b``); a ``.txt`` file holds a text a line.
        In ranking every row is a candidate with a score of its own.

        :param path: ``-`` is standard input.
        :param format: as :meth:`mtdnn.new_texts.NewTexts.of_file` takes it.
        :param bad_rows: ``skip`` leaves bad rows out; then every prediction has its row's ``place`` too.
        :raises DataError: naming every bad row of a window, unless they are skipped.
        """
        yield from self.predict_stream(NewTexts.of_file(path, self.tasks(tasks), format=format, bad_rows=bad_rows))

    def predict_rows(self, rows: Iterable[Any], *, tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
        """One mapping per row in memory, in their order: each task's prediction. For any number of rows.

        :param rows: each a text, a pair of texts, or a mapping from a column's name to its text.
        """
        yield from self.predict_stream(NewTexts.of_memory(rows, self.tasks(tasks)))

    def predict_stream(self, texts: NewTexts) -> Iterator[dict[str, Any]]:
        """One mapping per row, in their order; a window of rows is held at a time."""
        skips = texts.bad_rows == "skip"
        if skips and PLACE in (task.name for task in texts.tasks):
            raise ConfigError(f"a task is called '{PLACE}', as each row's place is where bad rows are skipped")
        for window in texts.windows():
            for row, found in zip(window, self.predict([row.values for row in window], texts.tasks), strict=True):
                yield {PLACE: row.place, **found} if skips else found

    def predict(self, rows: Sequence[Mapping[str, Any]], tasks: Sequence[TaskDef]) -> list[dict[str, Any]]:
        """Each row's prediction by task. Tasks that read the same texts share one encoding."""
        reading = [
            partial(texts_of, row, task, place=f"row {number}") for task in tasks for number, row in enumerate(rows, 1)
        ]
        if faults := [fault for read in reading for fault in faults_of(read)]:
            raise DataError(listed(faults))
        readers: dict[tuple[Hashable, tuple[Texts, ...]], list[TaskDef]] = {}
        for task in tasks:
            texts = tuple(texts_of(row, task, place="row") for row in rows)
            readers.setdefault((self.model.head(task.name).encoding, texts), []).append(task)
        found: list[dict[str, Any]] = [{} for _ in rows]
        for (_, texts), sharing in readers.items():
            for result, described in zip(found, self._described(texts, sharing), strict=True):
                result |= described
        return [{task.name: result[task.name] for task in tasks} for result in found]

    def predict_texts(self, texts: Iterable[Texts], task: TaskDef) -> Iterator[dict[str, Any]]:
        """The prediction of each text or pair, in order, for any number of them; empty texts are taken as they are."""
        for window in windows(texts):
            yield from (described[task.name] for described in self._described(window, [task]))

    @torch.inference_mode()
    def _described(self, texts: Sequence[Texts], tasks: Sequence[TaskDef]) -> list[dict[str, Any]]:
        """What each task's head says of each text, all from one encoding; texts of like length are encoded together."""
        heads = [self.model.head(task.name) for task in tasks]
        encoded = heads[0].encode(self.tokenizer, texts, max_length=self.model.config.encoder_max_length)
        readings = [Reading(task, head, head.columns(encoded, texts)) for task, head in zip(tasks, heads, strict=True)]
        starts = np.cumsum(encoded.num_rows) - encoded.num_rows
        longest = np.maximum.reduceat([len(row) for row in encoded.input_ids], starts)
        found: list[dict[str, Any]] = [{} for _ in texts]
        tokens = (longest * encoded.num_rows).tolist()  # padded, of all windows of a text
        for chosen in batches_by_length(tokens, BATCH_TOKENS.get(self.model.device.type, GPU_BATCH_TOKENS)):
            rows = [row for i in chosen for row in range(starts[i], starts[i] + encoded.num_rows[i])]
            inputs_NT = self._padded(encoded, rows)
            batches = [self._batch(inputs_NT, each, rows, encoded.num_rows[chosen]) for each in readings]
            batches = [replace(batch, texts=[[texts[i]] for i in chosen]) for batch in batches]
            with memory_for(batches[:1], doing="predicting"), in_precision(self.precision, self.model.device):
                hidden = self._hidden(inputs_NT, readings)
            for batch, each in zip(batches, readings, strict=True):
                logits = each.head(hidden[each.head.reads_tokens], batch)
                for index, described in zip(chosen, each.head.describe_rows(logits, batch), strict=True):
                    found[index][each.task.name] = described
        return found

    def _padded(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        types = encoded.token_type_ids
        chosen = [encoded.input_ids[row] for row in rows], [types[row] for row in rows] if types else []
        padded = pad_rows(*chosen, pad_id=self.tokenizer.pad_token_id)
        return {name: value.to(self.model.device) for name, value in padded.items()}

    def _hidden(self, inputs_NT: dict[str, Tensor], readings: Sequence[Reading]) -> dict[bool, Tensor]:
        """One vector a row; and, where a head reads them (True), the states of all tokens: from one encoding."""
        if not any(each.head.reads_tokens for each in readings):
            return {False: self.model.pooled(inputs_NT)}
        hidden_NTD = self.model.hidden(inputs_NT)
        return {True: hidden_NTD, False: self.model.pooled_of(hidden_NTD, inputs_NT["attention_mask"])}

    def _batch(
        self, inputs_NT: dict[str, Tensor], reading: Reading, rows: Sequence[int], num_rows: np.ndarray
    ) -> Batch:
        own = {name: [values[row] for row in rows] for name, values in reading.columns.items()}
        return Batch(
            task=reading.task.name,
            uids=("",) * len(num_rows),
            inputs_NT=inputs_NT,
            num_rows_U=torch.from_numpy(num_rows).to(self.model.device),
            tokens_NT={name: value.to(self.model.device) for name, value in pad_columns(own).items()},
        )


def batches_by_length(lengths: Sequence[int], num_tokens: int) -> Iterator[list[int]]:
    """Every row once, the longest first, as many together as ``num_tokens`` hold; one at least."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        count = max(1, num_tokens // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count
