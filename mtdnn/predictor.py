"""A trained model on new texts: evaluate a split, predict a file or rows in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mtdnn import encoder as enc
from mtdnn.data.batch import Batch, pad_rows
from mtdnn.data.formats import READERS, numbered_lines, suffix_format
from mtdnn.data.rows import Faults, Row, without_faults
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import encode_texts, load_split
from mtdnn.errors import ConfigError, DataError, faults_of, listed, unknown
from mtdnn.evaluate import Evaluation, evaluate
from mtdnn.model import MultiTaskModel, check_input, check_labels, load_model
from mtdnn.tasks import Inputs, TaskDef

ROWS_AT_ONCE = 256
WINDOW, BATCH = 4096, 64  # texts that are sorted by length together, and those that are encoded together


@dataclass(frozen=True)
class Predictor:
    """A model and its tokenizer.

    :param model: in evaluation mode, on the device it computes on.
    """

    model: MultiTaskModel
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path | str) -> "Predictor":
        """From a run's ``model`` folder; on the GPU where there is one."""
        folder = Path(folder)
        model = load_model(folder).eval()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = enc.load_tokenizer(str(folder))
        check_input(model, tokenizer, max_length=model.config.encoder_max_length, where=str(folder))
        return cls(model.to(device), tokenizer)

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
        source = find_source(definition, split, data_dir=data_dir)
        data = load_split(
            source, self.model.head(definition.name), self.tokenizer, max_length=self.model.config.encoder_max_length
        )
        found = evaluate(self.model, data, pad_id=self.tokenizer.pad_token_id)
        if not found.metrics:
            raise DataError(f"task '{definition.name}': split '{split}' has no labels; use mtdnn predict")
        return found

    def predict_file(self, path: Path, *, tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
        """One mapping per row of the file, in its order: each task's prediction.

        Columns are named as in the task's definition (or ``text_a``, ``text_b``); a ``.txt`` file holds a text a line.
        In ranking every row is a candidate with a score of its own.
        """
        definitions = [self.task(name) for name in tasks]
        faults = Faults()
        rows = file_rows(path, faults)
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            faults.raise_if_any(str(path))
            yield from self.predict(chunk, definitions)
        faults.raise_if_any(str(path))

    @torch.inference_mode()
    def predict(self, rows: Sequence[Mapping[str, Any]], tasks: Sequence[TaskDef]) -> list[dict[str, Any]]:
        """Each row's prediction by task. Tasks that read the same texts share one encoding."""
        results: list[dict[str, Any]] = [{} for _ in rows]
        encodings: dict[str, tuple[dict[str, torch.Tensor], torch.Tensor]] = {}
        faults = [fault for task in tasks for row in rows for fault in faults_of(partial(texts_of, row, task))]
        if faults:
            raise DataError(listed(faults))
        for task in tasks:
            texts = [texts_of(row, task) for row in rows]
            key = repr(texts)
            if key not in encodings:
                encodings[key] = self._encode(texts)
            for result, prediction in zip(results, self._describe(*encodings[key], task), strict=True):
                result[task.name] = prediction
        return results

    def predict_texts(self, texts: Iterable[tuple[str, str | None]], task: TaskDef) -> Iterator[dict[str, Any]]:
        """The prediction of each text or pair, in order, for any number of them; empty texts are taken as they are."""
        waiting = iter(texts)
        while window := list(islice(waiting, WINDOW)):
            by_length = sorted(range(len(window)), key=lambda index: -num_characters(window[index]))
            found: dict[int, dict[str, Any]] = {}
            for start in range(0, len(window), BATCH):
                chosen = by_length[start : start + BATCH]
                found.update(zip(chosen, self._predict_batch([window[i] for i in chosen], task), strict=True))
            yield from (found[index] for index in range(len(window)))

    @torch.inference_mode()
    def _predict_batch(self, texts: Sequence[tuple[str, str | None]], task: TaskDef) -> list[dict[str, Any]]:
        return self._describe(*self._encode(texts), task)

    def _describe(
        self, inputs_NT: dict[str, torch.Tensor], pooled_ND: torch.Tensor, task: TaskDef
    ) -> list[dict[str, Any]]:
        ones = torch.ones(len(pooled_ND), dtype=torch.int64, device=self.model.device)
        batch = Batch(task=task.name, uids=("",) * len(pooled_ND), inputs_NT=inputs_NT, num_rows_U=ones)
        head = self.model.head(task.name)
        return head.describe_rows(head(pooled_ND, batch), batch)

    def _encode(self, texts: Sequence[tuple[str, str | None]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        encoded = encode_texts(self.tokenizer, texts, max_length=self.model.config.encoder_max_length)
        padded = pad_rows(encoded["input_ids"], encoded.get("token_type_ids") or [], pad_id=self.tokenizer.pad_token_id)
        inputs_NT = {name: value.to(self.model.device) for name, value in padded.items()}
        with self.model.shortening():
            hidden_NTD = enc.encode(self.model.encoder, inputs_NT)
        return inputs_NT, self.model.pooler(hidden_NTD, inputs_NT["attention_mask"])


def num_characters(texts: Iterable[str | None]) -> int:
    return sum(len(text or "") for text in texts)


def file_rows(path: Path, faults: Faults) -> Iterator[dict[str, Any]]:
    """The rows of a data file, each with its ``place``; a ``.txt`` file holds a ``text_a`` a line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".txt":
        rows: Iterable[Row] = (
            Row(f"{path}:{line.number}", {"text_a": line.text.rstrip("\r\n")}, line.faults)
            for line in numbered_lines(path, faults)
        )
    else:
        rows = READERS[suffix_format(path)](path, faults)
    return ({**row.values, "place": row.place} for row in without_faults(rows, faults))


def texts_of(row: Mapping[str, Any], task: TaskDef) -> tuple[str, str | None]:
    """A row's text or pair, by the task's own column names or by ``text_a`` and ``text_b``."""
    own = [task.inputs, *(layout.inputs for layout in task.layouts() if layout.inputs)]
    for names in [*own, Inputs(text_a="text_a", text_b="text_b" if task.inputs.second else None)]:
        if all(isinstance(row.get(column), str) for column in names.columns()):
            for column in names.columns():
                if not str(row[column]).strip():
                    raise DataError(f"{row.get('place', 'row')}: column '{column}': empty text {row[column]!r}")
            return row[names.text_a], row[names.second] if names.second else None
    wanted = " or ".join(str(names.columns()) for names in own)
    here = [key for key in row if key != "place"]
    raise DataError(f"{row.get('place', 'row')}: task '{task.name}' reads {wanted}; the row has {here}")
