"""The words nearest to a word's vector, before and after a method's perturbation.

Pereira et al., 2022, "RAPT", section 4 and tables 4 to 6: cosine similarity at the site that the method perturbs, the
embeddings for SMART and the second layer for RAPT, with the other words of the training set.

Shape suffixes: D = hidden width, W = words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mtdnn.analysis.perturbed import batch_of, method_at, options_from, perturbed, site_of
from mtdnn.analysis.words import Texts, WordTable, mean_of_word, read, spelled, vocabulary_words, word_table
from mtdnn.data.rows import Faults, without_faults
from mtdnn.errors import ConfigError, DataError, unknown
from mtdnn.new_texts import file_reader, texts_of
from mtdnn.predictor import Predictor
from mtdnn.tasks import TaskDef

HEADER = ("rank", "before", "cosine", "after", "cosine")
CSV_HEADER = ("word", "method", "site", "rank", "before", "cosine_before", "after", "cosine_after")


@dataclass(frozen=True)
class Neighbour:
    word: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest words of one word, most similar first.

    :param site: where the vectors are taken and the change is added.
    :param own_cosine: of the word's vectors before and after.
    :param relative_size: the norm of the word's change over that of its vector before.
    :param num_words: how many words it was compared with.
    """

    word: str
    method: str
    site: str
    before: Sequence[Neighbour]
    after: Sequence[Neighbour]
    own_cosine: float
    relative_size: float
    num_words: int

    def rows(self) -> list[tuple[int, str, float, str, float]]:
        """Rank, word and cosine before, word and cosine after."""
        pairs = zip(self.before, self.after, strict=True)
        return [(rank, a.word, a.cosine, b.word, b.cosine) for rank, (a, b) in enumerate(pairs, start=1)]

    def csv_rows(self) -> list[tuple[Any, ...]]:
        return [(self.word, self.method, self.site, *row) for row in self.rows()]

    def summary(self) -> str:
        shared = len({each.word for each in self.before} & {each.word for each in self.after})
        return (
            f"{shared} of {len(self.before)} words stay; the change is {self.relative_size:.3g} times as long as the "
            f"vector, the cosine of the two vectors {self.own_cosine:.4f}; {self.num_words} words compared"
        )


def find_neighbours(
    predictor: Predictor,
    texts: Texts,
    *,
    word: str,
    method: str,
    settings: Sequence[str] = (),
    layer: str | None = None,
    task: str | None = None,
    among: Path | None = None,
    top: int = 5,
    seed: int = 1,
) -> Neighbours:
    """The nearest words of a word of a text, at the site where a method perturbs it.

    :param settings: the method's options, ``option=value`` each.
    :param layer: ``embeddings``, ``word`` or a layer's number; by default the method's own.
    :param task: whose output SMART's ascent follows, and whose columns ``among`` has; by default the model's first.
    :param among: a data file whose words are compared, each in its context; by default the vocabulary's, each alone.
    :raises ConfigError: when the method is never there, or the word does not stand in the text.
    """
    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    regularizer, site = method_at(method, options_from(settings), site=site_of(layer))
    definition = predictor.task(task) if task is not None else None
    reading = read(predictor, [texts])
    word = word_in(reading.words[0], spelled(word, predictor.tokenizer))
    batch = batch_of(predictor.model, reading.inputs_NT, task=task, needs_output=regularizer.climbs)
    found = perturbed(predictor.model, batch, regularizer, site=site, seed=seed)
    before_D = mean_of_word(reading, found.hidden_NTD, word)
    after_D = mean_of_word(reading, found.hidden_NTD + found.delta_NTD, word)
    rows = file_texts(among, definition or predictor.task(batch.task)) if among else alone(predictor.tokenizer)
    table = word_table(predictor, rows, site).without(word)
    return Neighbours(
        word=word,
        method=method,
        site=site,
        before=nearest(before_D, table, top=top),
        after=nearest(after_D, table, top=top),
        own_cosine=float(F.cosine_similarity(before_D, after_D, dim=0)),
        relative_size=float((after_D - before_D).norm() / before_D.norm()),
        num_words=len(table.words),
    )


def nearest(vector_D: Tensor, table: WordTable, *, top: int) -> list[Neighbour]:
    """The words of a table by the cosine of their vectors with ``vector_D``, the first ``top`` of them."""
    cosine_W = F.cosine_similarity(table.vectors_WD, vector_D.to(table.vectors_WD).unsqueeze(0), dim=1)
    order = cosine_W.argsort(descending=True, stable=True)[:top].tolist()
    return [Neighbour(table.words[index], float(cosine_W[index])) for index in order]


def word_in(words: Sequence[str], word: str) -> str:
    """The word itself; ConfigError when the text does not have it."""
    if word not in words:
        raise ConfigError(f"--word: {unknown('word of the text', word, {each for each in words if each})}")
    return word


def alone(tokenizer: Any) -> list[Texts]:
    """Every word of the vocabulary as a text of its own."""
    return [(word, None) for word in vocabulary_words(tokenizer)]


def file_texts(path: Path, task: TaskDef) -> list[Texts]:
    """A data file's texts: columns ``text_a`` alone, or the task's."""
    faults = Faults()
    rows = list(without_faults(file_reader(path)(faults), faults))
    faults.raise_if_any(str(path))
    if not rows:
        raise DataError(f"{path}: no rows")
    if all("text_a" in row.values and "text_b" not in row.values for row in rows):
        return [(str(row.values["text_a"]), None) for row in rows]
    return [texts_of(row.values, task, place=row.place) for row in rows]
