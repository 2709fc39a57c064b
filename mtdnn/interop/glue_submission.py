"""A run's answers to the test rows of GLUE, as the zip that its server takes."""

import io
import logging
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from mtdnn.data.rows import Fault, Faults, without_faults
from mtdnn.data.sources import Source, find_source
from mtdnn.errors import ConfigError, DataError, MtdnnError, NonFiniteError
from mtdnn.heads.labels import label_index
from mtdnn.interop.glue_files import GLUE_FILES, Answers, GlueFile
from mtdnn.interop.run_models import choose, definition, read_trained, select
from mtdnn.predictor import Predictor
from mtdnn.runs import FinishedCell
from mtdnn.tasks import TaskRegistry

log = logging.getLogger(__name__)
Found = TypeVar("Found")
LAYOUTS = ("files", "hub")
NUMBERED = re.compile(r"(?:[a-z]\w*-)*(\d+)")  # "17", "ax-17", "sst2-test-17"; not MRPC's pairs of numbers


@dataclass(frozen=True)
class Written:
    """What stands in one file of the zip.

    :param origin: the model's folder, or that there was none.
    :param empty: rows with an empty text, which were predicted as they are.
    """

    name: str
    rows: int
    origin: str
    empty: int = 0


@dataclass(frozen=True)
class Part:
    """One file to write.

    :param model: a model folder; None for the majority answer, which needs no rows either.
    :param words: our label name -> the server's word.
    :param empty: rows with an empty text.
    """

    file: GlueFile
    model: Path | None = None
    source: Source | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    empty: int = 0

    @property
    def origin(self) -> str:
        return str(self.model) if self.model else f"no model: the majority answer {self.file.majority} in every row"


@dataclass
class Missing:
    """All that keeps a submission from being whole; files with the same fault share a line."""

    errors: dict[str, MtdnnError] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def check(self, name: str, step: Callable[[], Found]) -> Found | None:
        """What the step returns; None when it raises, which is noted."""
        try:
            return step()
        except MtdnnError as error:
            self.errors[str(error)] = error
            self.names.setdefault(str(error), []).append(name)
        return None

    def raise_if_any(self) -> None:
        if self.errors:
            lines = [f"{', '.join(names)}: {message}" for message, names in self.names.items()]
            only_options = all(isinstance(error, ConfigError) for error in self.errors.values())
            raise (ConfigError if only_options else DataError)("no submission was written\n" + "\n".join(lines))


def submit(
    run: Path,
    out: Path,
    *,
    registry: TaskRegistry,
    data_dir: Path | None = None,
    system: str | None = None,
    stages: Sequence[str] = (),
    seed: int | None = None,
    majority: bool = False,
    files: Sequence[GlueFile] = GLUE_FILES,
) -> list[Written]:
    """Predict every official test split and write the zip; nothing is written when anything is missing.

    Each task is answered by the model that was trained on it alone, else by the joint one.

    :param run: the folder that ``mtdnn run`` wrote.
    :param system: whose models, where there are several systems.
    :param stages: models of these stages alone.
    :param seed: models of this seed, where a task has several.
    :param majority: give WNLI its most frequent answer instead of a model's.
    :raises ConfigError: when only the options leave a doubt, such as which of several seeds is meant.
    :raises DataError: naming every model, split and row that is missing.
    """
    missing = Missing()
    missing.check("--out", partial(check_out, out))
    models = select(read_trained(run), system=system, stages=stages)
    parts = []
    for file in files:
        if majority and file.majority:
            parts.append(Part(file))
        else:
            parts.append(plan_part(file, models, registry, missing, data_dir=data_dir, seed=seed))
    missing.raise_if_any()
    return write_zip(out, parts)


def check_out(out: Path) -> None:
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; give a file's name, such as {out / 'submission.zip'}")


def plan_part(
    file: GlueFile,
    models: Sequence[FinishedCell],
    registry: TaskRegistry,
    missing: Missing,
    *,
    data_dir: Path | None,
    seed: int | None,
) -> Part:
    """The model and the rows of a file, both checked; what is wrong goes to ``missing``."""
    chosen = missing.check(file.name, partial(choose, models, file.asked, seed=seed))
    words = missing.check(file.name, partial(words_of, file, chosen)) if chosen else None
    source = missing.check(file.name, partial(find_rows, file, registry, data_dir))
    empty = missing.check(file.name, partial(check_rows, file, source)) if source else None
    return Part(file, chosen.model if chosen else None, source, words or {}, empty or 0)


def words_of(file: GlueFile, chosen: FinishedCell) -> dict[str, str]:
    """The server's word for each label of a model.

    :raises ConfigError: when the labels, or the range of the scores, are not GLUE's.
    """
    saved = definition(chosen, file.asked)
    words = {names[0]: server_word(names, file.answers) for names in saved.label_words}
    wanted = [names[0] for names in file.answers]
    if sorted(words.values()) != sorted(wanted):
        wants = f"the labels {', '.join(wanted)}" if wanted else "scores"
        raise ConfigError(f"{chosen.model}: its labels are {', '.join(words) or 'none'}; GLUE wants {wants}")
    if file.score_range and saved.range and tuple(saved.range) != file.score_range:
        raise ConfigError(f"{chosen.model}: its scores are in {saved.range}; GLUE wants {list(file.score_range)}")
    return words


def server_word(names: Sequence[str], answers: Answers) -> str:
    """The server's word for a label, by the label's name or else by an alias; empty when it has none."""
    for name in names:
        try:
            return answers[int(label_index(name, answers))][0]
        except ValueError:
            continue
    return ""


def find_rows(file: GlueFile, registry: TaskRegistry, data_dir: Path | None) -> Source:
    """Where the test rows are: in files, else on the hub; DataError says why in neither."""
    task = registry.find(file.task, where=file.name)
    reasons = []
    for layout in LAYOUTS:
        if getattr(task.data, layout) is not None:
            try:
                source = find_source(task, "test", layout=layout, data_dir=data_dir)
                next(source.rows(Faults()), None)
                return source
            except MtdnnError as error:
                reasons.append(f"{layout}: {error}")
    raise DataError(f"no test rows of task '{task.name}'. {'; '.join(reasons) or 'It declares no files and no hub'}")


def check_rows(file: GlueFile, source: Source) -> int:
    """Read all rows once; the number of those with an empty text.

    :raises DataError: naming every bad row, and another number of rows than the official one.
    """
    faults = Faults()
    rows = empty = 0
    for text_a, text_b in read_texts(source, faults):
        rows += 1
        empty += not text_a.strip() or (text_b is not None and not text_b.strip())
    if rows != file.rows:
        told = f"{rows} rows where GLUE has {file.rows}"
        faults.add(", ".join(name for name, _ in source.parts), Fault("", told))
    faults.raise_if_any(f"task '{source.task.name}', test")
    return empty


def read_texts(source: Source, faults: Faults) -> Iterator[tuple[str, str | None]]:
    """The texts of every row in the file's order, targets unread.

    A row that is numbered otherwise than the official file numbers it, from 0, is a fault; so is one without a text.
    """
    columns, uid = source.task.columns(source.layout).columns(), source.layout.uid
    for position, row in enumerate(without_faults(source.rows(faults), faults)):
        number = NUMBERED.fullmatch(str(row.values.get(uid))) if uid else None
        if number and int(number[1]) != position:
            told = f"{row.values[str(uid)]} stands in place {position} of the official order"
            faults.add(row.place, Fault(str(uid), told))
        texts = [row.values.get(column) for column in columns]
        for column, text in zip(columns, texts, strict=True):
            if not isinstance(text, str):
                told = f"expected text, got {text!r}; the row has {', '.join(row.values)}"
                faults.add(row.place, Fault(column, told))
        yield str(texts[0]), str(texts[1]) if len(texts) > 1 else None


def write_zip(out: Path, parts: Sequence[Part]) -> list[Written]:
    """Every part in a zip, each model loaded once; what was there is replaced when all is written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.with_name(f".staged-{out.name}")
    written: dict[str, Written] = {}
    try:
        with zipfile.ZipFile(staged, "w") as archive:
            for model, group in groupby(sorted(parts, key=_model), key=_model):
                predictor = Predictor.load(model) if model else None
                for part in group:
                    written[part.file.name] = _write_part(archive, part, predictor)
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    return [written[part.file.name] for part in parts]


def _model(part: Part) -> str:
    return str(part.model) if part.model else ""


def _write_part(archive: zipfile.ZipFile, part: Part, predictor: Predictor | None) -> Written:
    log.info("%s: %s", part.file.name, part.origin)
    entry = zipfile.ZipInfo(part.file.name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    rows = 0
    with io.TextIOWrapper(archive.open(entry, "w"), encoding="utf-8", newline="\n") as file:
        file.write("index\tprediction\n")
        for rows, answer in enumerate(answers_of(part, predictor), 1):
            file.write(f"{rows - 1}\t{answer}\n")
    if rows != part.file.rows:
        raise DataError(f"{part.file.name}: {rows} rows where there were {part.file.rows} before; the data changed")
    return Written(part.file.name, rows, part.origin, part.empty)


def answers_of(part: Part, predictor: Predictor | None) -> Iterator[str]:
    """The server's word or score for each row, in the official order."""
    if predictor is None or part.source is None:
        yield from [part.file.majority] * part.file.rows
        return
    faults = Faults()
    predictions = predictor.predict_texts(read_texts(part.source, faults), predictor.task(part.file.asked))
    yield from (answer_of(prediction, part) for prediction in predictions)
    faults.raise_if_any(part.file.name)


def answer_of(prediction: Mapping[str, Any], part: Part) -> str:
    """A prediction as the server reads it: a word, or a score within the range with three decimals."""
    wanted = "score" if part.file.score_range else "label"
    if wanted not in prediction:
        raise ConfigError(f"{part.model}: its head for '{part.file.asked}' gives no {wanted}, which GLUE wants")
    values = [prediction["score"]] if part.file.score_range else prediction.get("probabilities", {}).values()
    if not all(map(math.isfinite, values)):
        raise NonFiniteError(f"{part.model}: its answers on '{part.file.task}' are not finite; train it anew")
    if part.file.score_range is None:
        return part.words[prediction["label"]]
    lowest, highest = part.file.score_range
    return f"{max(lowest, min(prediction['score'], highest)):.3f}"
