"""Every cell of a report's tables again: ``python tests/report/recomputed.py RUN [REPORT]``, RUN/report by default.

From the predictions and what the results record of the training, with NumPy, SciPy and statsmodels alone: shares no
code with the package. A cell is expected as words and numbers; a number may differ by what rounding takes. A table, a
column or a row that is not known here, or is missing there, is a fault too.
"""

import csv
import json
import math
import re
import statistics
import string
import sys
from collections import Counter, defaultdict
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

ROOT = Path(__file__).parents[2]
SPLITS = ("validation", "test")
RESAMPLES = 400


# Metrics; None where constant answers or targets leave them undefined, which is reported as 0.


def f1_of(label, given, right):
    both = ((given == label) & (right == label)).sum()
    total = (given == label).sum() + (right == label).sum()
    return 2 * both / total if total else None


def f1_macro(given, right):
    given, right = np.array(given), np.array(right)
    return float(np.mean([f1_of(label, given, right) for label in np.union1d(given, right)]))


def correlation(a, b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else None


def pearson(given, right):
    return None if len({*given}) < 2 or len({*right}) < 2 else correlation(given, right)


def spearman(given, right):
    return pearson(*(list(stats.rankdata(each)) for each in (given, right)))


def matthews(given, right):
    """The correlation of one-hot codes (Gorodkin, 2004)."""
    given, right = np.array(given), np.array(right)
    labels = np.union1d(given, right)
    if len({*given.tolist()}) < 2 or len({*right.tolist()}) < 2:
        return None
    codes = [(given[:, None] == labels).astype(float), (right[:, None] == labels).astype(float)]
    return correlation(*((code - code.mean(0)).ravel() for code in codes))


def worst_first(scores, right):
    """The right-or-wrong of a group's candidates, best score first, a wrong one before a right one of its score."""
    return np.array([hit for _, hit in sorted(zip(scores, right, strict=True), key=lambda each: (-each[0], each[1]))])


def over_groups(score):
    def metric(given, right):
        counted = [(g, r) for g, r in zip(given, right, strict=True) if 0 < sum(r) < len(r)]
        return float(np.mean([score(worst_first(g, r)) for g, r in counted])) if counted else None

    return metric


def ndcg(hits, at):
    gains = 1 / np.log2(np.arange(2, len(hits) + 2))
    return float((hits * gains)[:at].sum() / (np.sort(hits)[::-1] * gains)[:at].sum())


@cache
def spans(labels):
    """Each entity of a sentence in IOB2 as (kind, first word, last); an I that continues nothing begins one."""
    found, last = [], "O"
    for place, label in enumerate(labels):
        if label != "O" and (label[0] == "B" or last[1:] != label[1:]):
            found.append([label[2:], place, place])
        elif label != "O":
            found[-1][2] = place
        last = label
    return {tuple(each) for each in found}


def span_f1(given, right):
    pairs = [(spans(tuple(g)), spans(tuple(r))) for g, r in zip(given, right, strict=True)]
    total = sum(len(g) + len(r) for g, r in pairs)
    return 2 * sum(len(g & r) for g, r in pairs) / total if total else None


@cache
def words(answer):
    bare = "".join(sign for sign in answer.lower() if sign not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


@cache
def shared_words(given, right):
    both = sum((Counter(words(given)) & Counter(words(right))).values())
    return 2 * both / (len(words(given)) + len(words(right))) if both else 0.0


def best_of(score):
    def metric(given, right):
        return float(np.mean([max(score(g, each) for each in r) for g, r in zip(given, right, strict=True)]))

    return metric


METRICS = {
    "accuracy": lambda given, right: float(np.mean(np.equal(given, right))),
    "f1": lambda given, right: f1_of(1, np.array(given), np.array(right)),
    "f1_macro": f1_macro,
    "matthews_corrcoef": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "mrr": over_groups(lambda hits: 1 / (1 + np.argmax(hits))),
    "map": over_groups(lambda hits: np.mean([hits[: i + 1].mean() for i in np.flatnonzero(hits)])),
    "hits@1": over_groups(lambda hits: hits[0]),
    "ndcg@10": over_groups(lambda hits: ndcg(hits, 10)),
    "span_f1": span_f1,
    "exact_match": best_of(lambda given, right: float(words(given) == words(right))),
    "squad_f1": best_of(shared_words),
}
QUICK = {"accuracy", "f1", "f1_macro", "matthews_corrcoef"}  # whose bootstrap is in every report


def calibration_error(rows):
    """Over ten bins (0, 0.1], ... of the predicted label's probability (Guo et al., 2017, equation 3)."""
    sure = np.array([max(row["probabilities"].values()) for row in rows])
    right = np.array([row["prediction"] == row["target"] for row in rows], dtype=float)
    bins = [(sure > low / 10) & (sure <= (low + 1) / 10) for low in range(10)]
    return float(sum(here.mean() * abs(sure[here].mean() - right[here].mean()) for here in bins if here.any()))


# What a run holds.


@cache
def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line] if path.is_file() else []


@cache
def value_of(path, metric):
    rows = lines_of(path)
    return METRICS[metric]([row["prediction"] for row in rows], [row["target"] for row in rows]) or 0.0


@cache
def resampled(path, metric):
    """The metric of 400 samples of the predictions, with replacement; equal numbers of examples, equal samples."""
    rows, rng = lines_of(path), np.random.default_rng(0)
    draws = [rng.integers(len(rows), size=len(rows)) for _ in range(RESAMPLES)]
    given, right = [row["prediction"] for row in rows], [row["target"] for row in rows]
    return np.array([METRICS[metric]([given[i] for i in draw], [right[i] for i in draw]) or 0.0 for draw in draws])


class Cell(NamedTuple):
    folder: Path
    result: dict

    @property
    def kind(self):
        return self.result["inputs"]["stage"]["kind"]

    def file(self, task, split):
        return self.folder / f"predictions-{task}-{split}.jsonl"


class Group(NamedTuple):
    """A system's cells of a task at a stage and fraction, by seed."""

    system: str
    stage: str
    task: str
    fraction: float | None
    kind: str
    cells: dict

    @property
    def name(self):
        return f"{self.system} · {self.stage}"

    @property
    def shown(self):
        return percent(self.fraction)

    @property
    def setting(self):
        return self.task, share(self.fraction)

    @property
    def first(self):
        return next(iter(self.cells.values())).result

    def metrics(self, split=None):
        entries = self.first["metrics"][self.task]
        entry = next(iter(entries.values())) if split is None else entries.get(split, {"values": {}})
        return list(entry["values"])

    def files(self, split, metric=None):
        metric = metric or self.metrics()[0]
        known = {seed: each.result["metrics"][self.task].get(split) for seed, each in self.cells.items()}
        return {
            s: self.cells[s].file(self.task, split) for s, each in known.items() if each and metric in each["values"]
        }

    def values(self, split, metric=None):
        found = self.files(split, metric)
        return {seed: value_of(path, metric or self.metrics()[0]) for seed, path in found.items()}

    @property
    def split(self):
        return "test" if self.files("test") else "validation"

    @property
    def one_start(self):
        starts = [each.result.get("root") or each.result["inputs"].get("upstream") for each in self.cells.values()]
        return len(starts) > 1 and None not in starts and len(set(starts)) == 1

    @property
    def way(self):
        if self.kind == "joint":
            return "joint"
        return "alone" if self.first["inputs"]["upstream"] is None else "after another stage"

    @property
    def method(self):
        stage = self.first["inputs"]["stage"]
        own = [each for each in stage["regularizers"] if self.task in (each.get("tasks") or [self.task])]
        return stage["objective"], [{k: v for k, v in each.items() if k != "tasks"} for each in own]

    @property
    def classified(self):
        """The rows by seed, where each example has one of several labels."""
        rows = {seed: lines_of(each.file(self.task, self.split)) for seed, each in self.cells.items()}
        is_label = {s: r and "target" in r[0] and isinstance(r[0].get("probabilities"), dict) for s, r in rows.items()}
        return {seed: rows[seed] for seed in rows if is_label[seed]}


def share(fraction):
    return None if fraction == 1.0 else fraction


def percent(fraction):
    return "" if fraction is None else f"{100 * fraction:g} %"


class Run:
    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "experiment.json"
        self.about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        overview = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        cells = [
            Cell(path.parent, json.loads(path.read_text()))
            for path in sorted(self.folder.glob("*/*/*/*/*/results.json"))
        ]
        cells += [Cell(self.folder / each["same_as"], each) for each in overview if "same_as" in each]
        order = [*self.about.get("places", []), *([each["system"], each["stage"]] for each in overview)]
        self.cells = sorted(cells, key=lambda each: order.index([each.result["system"], each.result["stage"]]))
        self.planned = self.about.get("planned", [])

    @cached_property
    def groups(self):
        found = {}
        for each in self.cells:
            facts = each.result
            for task in facts["metrics"]:
                key = (facts["system"], facts["stage"], task, facts["fraction"], each.kind)
                found.setdefault(key, {})[facts["seed"]] = each
        return [Group(*key, dict(sorted(cells.items()))) for key, cells in found.items()]

    @cached_property
    def last(self):
        return list({(each.system, each.task, each.fraction): each for each in self.groups}.values())

    @cached_property
    def pairs(self):
        """The first system that trains a task, and each other one; each pair of models once."""
        own = [g for g in self.groups if g.kind != "cosine" and (not self.planned or g.stage in self.stages(g))]
        last = list({(each.system, *each.setting): each for each in own}.values())
        found, seen = [], set()
        for setting in dict.fromkeys(each.setting for each in last):
            here = {each.system: each for each in last if each.setting == setting}
            planned = [system for system, _, task, fraction in self.planned if (task, share(fraction)) == setting]
            base = here[next(iter(planned or here))]
            for each in here.values():
                models = tuple((base.cells[s].folder, each.cells[s].folder) for s in each.cells if s in base.cells)
                if each is not base and not all(a == b for a, b in models) and (setting, models) not in seen:
                    seen.add((setting, models))
                    found.append((base, each))
        return found

    def start_of(self, cell):
        """The cell whose weights a cell began with: of its system and fraction, and its seed or the stage's first."""
        facts = cell.result
        earlier = [each for each in self.cells if each.result["system"] == facts["system"]]
        earlier = [each for each in earlier if each.result["stage"] == facts["inputs"]["stage"]["from_"]]
        earlier = [each for each in earlier if each.result["fraction"] in (None, facts["fraction"])]
        return next((each for each in earlier if each.result["seed"] == facts["seed"]), earlier[0])

    def stages(self, group):
        return [
            stage
            for system, stage, task, f in self.planned
            if (system, (task, share(f))) == (group.system, group.setting)
        ]


# How a cell is shown: words, and numbers with so many digits after the point, or so many that count.


class Shown(NamedTuple):
    value: float
    digits: int
    signed: bool = False
    counting: bool = False

    @property
    def pattern(self):
        if self.counting:
            return r"([-+.e\d]+)"
        digits = rf"\d[\d,]*\.\d{{{self.digits}}}" if self.digits else r"\d[\d,]*"
        if self.signed and abs(self.value) < 1e-9:  # nothing but rounding
            return r"([+−]0\.00?)"
        return rf"([+−]{digits})" if self.signed else rf"([-−]?{digits})"

    def is_near(self, text):
        found = float(text.replace(",", "").replace("−", "-"))
        if self.counting and f"{found:.{self.digits}g}" != text:
            return False
        digits = (
            self.digits - 1 - math.floor(math.log10(abs(self.value))) if self.counting and self.value else self.digits
        )
        return abs(found - self.value) <= 0.5 * 10.0**-digits * (1 + 1e-6) + 1e-9


def is_told(text, expected):
    """Whether a cell of a CSV file says what is expected: a text, or texts and numbers in turn."""
    parts = [expected] if isinstance(expected, str | Shown) else expected
    pattern = "".join(each.pattern if isinstance(each, Shown) else re.escape(each) for each in parts)
    numbers = [each for each in parts if isinstance(each, Shown)]
    for said in (text, text.removeprefix("'")):  # which a text has that a spreadsheet would take for a formula
        if match := re.fullmatch(pattern, said, re.DOTALL):
            return all(number.is_near(group) for number, group in zip(numbers, match.groups(), strict=True))
    return False


def difference(value):
    return [Shown(100 * value, 2 if 0 < abs(100 * value) < 0.05 else 1, signed=True)]


def interval(ends):
    return ["-"] if ends is None else [*difference(ends[0]), " to ", *difference(ends[1])]


def mean_and_spread(values):
    values = list(values)
    if not values:
        return ["-"]
    centre = Shown(100 * statistics.mean(values), 1)
    return [centre] if len(values) == 1 else [centre, " ± ", Shown(100 * statistics.stdev(values), 1)]


def p_value(value):
    return "-" if value is None else "< 0.001" if value < 0.001 else Shown(value, 3)


# Tests.


class Paired(NamedTuple):
    """Student's t on differences in pairs; None where they have no spread."""

    mean: float
    num: int
    ends: tuple | None = None
    p: float | None = None
    spread: float | None = None


def paired(a, b):
    changes = np.subtract(b, a)
    if len(changes) < 2 or changes.std(ddof=1) / math.sqrt(len(changes)) <= 1e-12:
        centre = statistics.mean(changes.tolist())
        return Paired(centre if abs(centre) > 1e-12 else 0.0, len(changes))
    found = stats.ttest_rel(b, a)
    ends = found.confidence_interval(0.95)
    return Paired(changes.mean(), len(changes), (ends.low, ends.high), found.pvalue, changes.std(ddof=1))


def power(size, count, level):
    """Of a two-sided t-test on so many pairs, for a difference of ``size`` of their standard deviations."""
    limit, shift = stats.t.isf((1 - level) / 2, count - 1), size * math.sqrt(count)
    return stats.nct.sf(limit, count - 1, shift) + np.nan_to_num(stats.nct.cdf(-limit, count - 1, shift))


@cache
def detectable(count, level=0.95):
    high = 0.5
    while power(high, count, level) < 0.8:
        high *= 2
    return brentq(lambda size: power(size, count, level) - 0.8, high / 2, high)


def shown_detectable(found, tests):
    if found.spread is None:
        return "-"
    size = found.spread * detectable(found.num, 1 - 0.05 / tests)
    return "> 100" if size > 1 else Shown(100 * size, 1)


def seeds_needed(found):
    """Exactly up to 30, beyond with Guenther's correction (1981) of the normal distribution's."""
    if not found.spread or not found.mean:
        return "-"
    size = abs(found.mean) / found.spread
    few = next((count for count in range(2, 31) if detectable(count) <= size), None)
    limit = stats.norm.ppf(0.975)
    needed = few or max(31, math.ceil(((limit + stats.norm.ppf(0.8)) / size) ** 2 + limit**2 / 2))
    return f"{needed:,}" if needed <= 10_000 else "> 10,000"


def adjusted(p_values):
    known = [p for p in p_values if p is not None]
    values = iter(multipletests(known, method="fdr_bh")[1] if known else [])
    return [None if p is None else next(values) for p in p_values], len(known)


class Compared(NamedTuple):
    a: Group
    b: Group
    split: str
    metric: str
    seeds: list
    over_seeds: Paired
    over_examples: tuple | None = None
    p_examples: float | None = None
    exact: float | None = None

    def start(self):
        a, b = self.a, self.b
        return {
            "task": b.task,
            "fraction": b.shown,
            "a": a.name,
            "b": b.name,
            "split": self.split,
            "metric": self.metric,
            "b - a": difference(self.over_seeds.mean),
            "95 % over seeds": interval(self.over_seeds.ends),
            "n": str(self.over_seeds.num),
        }

    def verdict(self, p):
        found = self.over_seeds
        if found.num == 1:
            return "one seed"
        if found.p is None:
            return "no spread" if found.mean else "no difference"
        star = "*" if self.a.one_start or self.b.one_start else ""
        if found.ends[0] <= 0 <= found.ends[1] or p >= 0.05:
            return f"not resolved{star}"
        if self.over_examples is None:
            return f"over seeds{star}"
        low, high = self.over_examples
        return f"{'these examples' if low <= 0 <= high else 'resolved'}{star}"


def compared(a, b, metric=None):
    metric = metric or b.metrics()[0]
    split = "test" if a.files("test") and b.files("test") else "validation"
    one, two = a.values(split, metric), b.values(split, metric)
    seeds = [seed for seed in two if seed in one]
    found = paired([one[s] for s in seeds], [two[s] for s in seeds])
    told = Compared(a, b, split, metric, seeds, found)
    if len(seeds) > 1 and metric not in QUICK:
        return told
    files = [(a.files(split, metric)[s], b.files(split, metric)[s]) for s in seeds]
    values = np.mean([resampled(two, metric) - resampled(one, metric) for one, two in files], axis=0)
    side = min((values <= 0).sum(), (values >= 0).sum())
    ends = tuple(np.quantile(values, [0.025, 0.975]))
    exact = mcnemar_of(*files[0]) if metric == "accuracy" and len(seeds) == 1 else None
    return told._replace(over_examples=ends, p_examples=min(1.0, 2 * (side + 1) / (RESAMPLES + 1)), exact=exact)


def mcnemar_of(*files):
    right = [np.array([row["prediction"] == row["target"] for row in lines_of(file)]) for file in files]
    one, two = (right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum()
    return float(mcnemar([[0, one], [two, 0]], exact=True).pvalue) if one + two else 1.0


# Tables: of each name, rows by column.


def differences(run):
    found = [compared(a, b) for a, b in run.pairs]
    if not found:
        return
    p_adjusted, tests = adjusted([each.over_seeds.p for each in found])
    rows = []
    for each, p in zip(found, p_adjusted, strict=True):
        count = each.b.first["metrics"][each.b.task][each.split]["units"]
        rows.append(
            {
                **each.start(),
                "verdict": each.verdict(p),
                "p": p_value(each.over_seeds.p),
                "p adjusted": p_value(p),
                "detectable alone": shown_detectable(each.over_seeds, 1),
                "detectable": shown_detectable(each.over_seeds, max(tests, 1)),
                "seeds needed": seeds_needed(each.over_seeds),
                "examples": f"{count:,}",
                "95 % over examples": interval(each.over_examples),
                "p over examples": p_value(each.p_examples),
                "McNemar": p_value(each.exact),
            }
        )
    yield "differences", rows
    others = [
        compared(each.a, each.b, metric).start()
        for each in found
        for metric in each.b.metrics(each.split)
        if metric != each.metric and each.a.files(each.split, metric)
    ]
    if others:
        yield "differences-other-metrics", others


def results(run):
    rows = {}
    for group in run.groups:
        names = dict.fromkeys(metric for split in SPLITS for metric in group.metrics(split))
        for place, metric in enumerate(names):
            values = {split: list(group.values(split, metric).values()) for split in SPLITS}
            counts = dict.fromkeys(str(len(each)) for each in values.values() if each)
            start = {"system": group.system, "stage": group.stage, "task": group.task, "fraction": group.shown}
            shown = {split: mean_and_spread(each) for split, each in values.items()}
            ends = (
                []
                if place
                else [np.quantile(resampled(f, metric), [0.025, 0.975]) for f in group.files(group.split).values()]
            )
            low_high = [Shown(100 * value, 1) for value in np.mean(ends, axis=0)] if ends else []
            over = [low_high[0], " to ", low_high[1]] if ends else ""
            rows[group[:5], metric] = {
                **start,
                "metric": metric,
                **shown,
                "n": " and ".join(counts),
                "95 % over examples": over,
            }
    yield "results", [*rows.values(), *(row for task in tasks_of(run) for row in no_model(run, task))]


def tasks_of(run):
    return dict.fromkeys(task for each in run.cells for task in each.result["metrics"])


def no_model(run, task):
    """What one answer to every example comes to."""
    for each in (each for each in run.cells if task in each.result["metrics"]):
        rows = {
            split: [row for row in lines_of(each.file(task, split)) if is_number(row.get("target"))] for split in SPLITS
        }
        if not any(rows.values()):
            continue
        facts = run.about.get("training", {}).get(task)
        kind = next(row for known in rows.values() for row in known)
        name = "candidates as they come" if isinstance(kind["prediction"], list) else "mean score"
        name = "most frequent label" if isinstance(kind.get("probabilities"), dict) else name
        for metric in next(iter(each.result["metrics"][task].values()))["values"]:
            told = {split: constant_value(known, facts, metric) for split, known in rows.items()}
            stage = "training rows" if facts else "the split's own"
            start = {"system": f"no model: {name}", "stage": stage, "task": task, "fraction": "", "metric": metric}
            yield {**start, **told, "n": "", "95 % over examples": ""}
        return


def is_number(target):
    return target is not None and all(
        isinstance(x, int | float) for x in (target if isinstance(target, list) else [target])
    )


def constant_value(rows, facts, metric):
    if not rows:
        return "-"
    targets = [x for row in rows for x in (row["target"] if isinstance(row["target"], list) else [row["target"]])]
    most = facts["most_frequent"] if facts else min(targets, key=lambda x: (-targets.count(x), x))
    centre = facts["mean"] if facts else statistics.mean(targets)

    def answer(row):
        if isinstance(row["prediction"], list):
            return [-place for place in range(len(row["prediction"]))]
        return int(most) if "probabilities" in row else centre

    value = METRICS[metric]([answer(row) for row in rows], [row["target"] for row in rows])
    return "-" if value is None else [Shown(100 * value, 1)]


def published(run):
    name = str(run.about.get("name", run.folder.resolve().name)).replace("-", "_")
    path = ROOT / "experiments" / f"{name}.published.yaml"
    shipped = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    found = run.about.get("published", shipped)
    if found:
        yield f"published-{name}", [published_row(run, {**found, **figure}) for figure in found["figures"]]


def published_row(run, figure):
    fraction, metric, split, value = figure.get("fraction"), figure["metric"], figure["split"], figure["value"]
    same = [g for g in run.last if (g.system, *g.setting) == (figure["system"], figure["task"], share(fraction))]
    group = next((each for each in same if each.fraction == fraction), same[0] if same else None)
    if group and metric == "train_minutes":
        values = [each.result["train_seconds"] / 60 / 100 for each in group.cells.values()]
    else:
        values = list(group.values(split, metric).values()) if group else []
    ends = paired([0.0] * len(values), values).ends if values else None
    inside = "-" if ends is None else "yes" if ends[0] <= value / 100 <= ends[1] else "no"
    if values and group.first["inputs"]["encoder"]["path"].split("/")[-1] != figure["encoder"].split("/")[-1]:
        inside = "other encoder"
    shown = [Shown(100 * ends[0], 1), " to ", Shown(100 * ends[1], 1)] if ends else "-"
    return {
        "system": figure["system"],
        "task": figure["task"],
        "fraction": percent(fraction),
        "split": split,
        "metric": metric,
        "published": f"{value:g}",
        "encoder": figure["encoder"],
        "ours": mean_and_spread(values) if values else "not run",
        "n": str(len(values)) if values else "",
        "95 % of ours": shown if values else "",
        "inside": inside if values else "",
        "ours - published": difference(statistics.mean(values) - value / 100) if values else "",
    }


def transfer(run):
    groups = {(g.setting, *(cell.folder for cell in g.cells.values())): g for g in reversed(run.groups)}
    groups = [each for each in run.groups if each.kind != "cosine" and each in groups.values()]
    rows = []
    for setting in dict.fromkeys(each.setting for each in groups):
        here = [each for each in groups if each.setting == setting]
        here = [each for way in ("alone", "joint", "after another stage") for each in here if each.way == way]
        if len({each.way for each in here}) > 1:
            rows += [transfer_row(run, each, [one for one in here if one.way == "alone"]) for each in here]
    if rows:
        yield "transfer", rows


def updates(run, group):
    """Steps with the task in them, of the stages before the last and of the last; and those without it."""
    before, own, others = [], [], []
    for cell in group.cells.values():
        chain = [cell]
        while chain[-1].result["inputs"]["stage"]["from_"]:
            chain.append(run.start_of(chain[-1]))
        counts = [each.result["task_updates"].get(group.task, 0) for each in chain]
        own.append(counts[0])
        before.append(sum(counts[1:]))
        others.append(sum(each.result["steps"] for each in chain) - sum(counts))
    return tuple(statistics.mean(each) for each in (before, own, others))


def told_updates(before, own, _others):
    total = round(before + own)
    return f"{round(before)} + {total - round(before)} = {total}" if round(before) else str(total)


def times_as_many(a, b):
    few, many = sorted(max(round(before + own), 1) for before, own, _ in (a, b))
    return many / few


def transfer_row(run, group, alone):
    mine = updates(run, group)
    alike = [each for each in alone if each.method == group.method] or alone
    base = min(alike, key=lambda each: times_as_many(mine, updates(run, each)), default=None)
    values = group.values(group.split)
    there = base and group.way != "alone" and base.files(group.split, group.metrics()[0])
    seeds = [seed for seed in values if seed in base.cells] if there else []
    row = {
        "task": group.task,
        "fraction": group.shown,
        "trained": group.way,
        "system": group.name,
        "split": group.split,
        "metric": group.metrics()[0],
        "mean ± sd": mean_and_spread(values.values()),
        "n": str(len(values)),
        "updates": told_updates(*mine),
        "of other tasks": f"{mine[2]:.0f}",
    }
    if not seeds:
        return {**row, "alone": "", "its updates": "", "against alone": "", "95 %": "", "pairs": ""}
    found = paired([base.values(group.split)[seed] for seed in seeds], [values[seed] for seed in seeds])
    name = base.name if base.method == group.method else f"{base.name} (another method)"
    theirs = updates(run, base)
    ratio = times_as_many(mine, theirs)
    alike = "equal" if ratio == 1 else "about equal" if ratio <= 1.1 else "unequal"
    told = {"alone": name, "its updates": f"{told_updates(*theirs)}, {alike}"}
    told |= {"against alone": difference(found.mean), "95 %": interval(found.ends)}
    return {**row, **told, "pairs": str(found.num)}


def diagnostics(run):
    kinds = ("delta_inf", "delta_rms/x_rms", "penalty/loss", "gain", "of_fp32", "dropout_floor")
    rows = []
    for group in run.groups:
        samples = [
            s for each in group.cells.values() for s in each.result.get("diagnostics", []) if s["task"] == group.task
        ]
        for name in dict.fromkeys(sample["regularizer"] for sample in samples):
            own = [sample for sample in samples if sample["regularizer"] == name]
            told = {kind: [sample[kind] for sample in own if kind in sample] for kind in kinds}
            shown = {k: Shown(statistics.mean(v), 3, counting=True) if v else "-" for k, v in told.items()}
            start = {"system": group.system, "stage": group.stage, "task": group.task, "fraction": group.shown}
            rows.append({**start, "method": name, **shown, "samples": str(len(own))})
    if rows:
        yield "diagnostics", rows


def confusion(run):
    for group in run.last:
        if runs := list(group.classified.values()):
            names = list(runs[0][0]["probabilities"])
            table = np.zeros((len(names), len(names)), dtype=int)
            for row in (row for rows in runs for row in rows):
                table[row["target"], row["prediction"]] += 1
            shares = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
            rows = [
                {
                    "right": name,
                    **{
                        other: [Shown(s, 1), " %"] if table[i].sum() else "-"
                        for other, s in zip(names, shares[i], strict=True)
                    },
                    "examples": str(table[i].sum() // len(runs)),
                }
                for i, name in enumerate(names)
            ]
            yield f"confusion-{group.system}-{group.task}-{group.fraction or 'full'}".replace("/", "-"), rows


def calibration(run):
    errors = {
        (each.name, each.setting): {seed: calibration_error(rows) for seed, rows in each.classified.items()}
        for each in run.last
        if each.classified
    }
    groups = [each for each in run.last if (each.name, each.setting) in errors]
    if not groups:
        return
    yield (
        "calibration",
        [
            {
                "task": each.task,
                "fraction": each.shown,
                "system": each.name,
                "split": each.split,
                "error": Shown(100 * statistics.mean(errors[each.name, each.setting].values()), 1),
                "n": str(len(errors[each.name, each.setting])),
            }
            for each in groups
        ],
    )
    found = []
    for a, b in run.pairs:
        one, two = (errors.get((each.name, each.setting), {}) for each in (a, b))
        if (seeds := [seed for seed in two if seed in one]) and a.split == b.split:
            found.append((a, b, paired([one[s] for s in seeds], [two[s] for s in seeds])))
    p_adjusted, _ = adjusted([each.p for _, _, each in found])
    rows = [
        {
            "task": b.task,
            "fraction": b.shown,
            "a": a.name,
            "b": b.name,
            "split": b.split,
            "b - a": difference(each.mean),
            "95 % over seeds": interval(each.ends),
            "n": str(each.num),
            "p": p_value(each.p),
            "p adjusted": p_value(p),
        }
        for (a, b, each), p in zip(found, p_adjusted, strict=True)
    ]
    if rows:
        yield "calibration-differences", rows


def examples(run):
    for setting in dict.fromkeys(each.setting for each in run.last):
        groups = [each for each in run.last if each.setting == setting]
        shares = {each.system: shares_right(each) for each in groups if each.classified}
        if not shares or len({frozenset(each) for each in shares.values()}) > 1:
            continue
        group = groups[0]
        where = "-".join(filter(None, [group.task, group.shown, group.split])).replace(" ", "").replace("/", "-")
        rows = {row["uid"]: row for each in groups for rows in each.classified.values() for row in rows}
        texts = {
            row["uid"]: told(row["texts"])
            for row in lines_of(run.folder / f"examples/{group.task}-{group.split}.jsonl")
        }

        def table(uids, shown, rows=rows, texts=texts):
            return [
                {
                    "uid": uid,
                    "text": texts.get(uid, ""),
                    "right label": list(rows[uid]["probabilities"])[rows[uid]["target"]],
                    **{
                        f"{system} right in": [Shown(100 * each[uid], 0), " % of runs"]
                        for system, each in shown.items()
                    },
                }
                for uid in uids[:10]
            ]

        names = list(shares)
        first = shares[names[0]]
        yield (
            f"hardest-{where}",
            table(sorted(first, key=lambda uid: statistics.mean(s[uid] for s in shares.values())), shares),
        )
        for name in names[1:]:
            change = {uid: shares[name][uid] - first[uid] for uid in first}
            parted = sorted((uid for uid in change if change[uid]), key=lambda uid: -abs(change[uid]))
            if parted:
                yield f"changed-{name}-{where}".replace("/", "-"), table(parted, {names[0]: first, name: shares[name]})


def shares_right(group):
    hits = defaultdict(list)
    for row in (row for rows in group.classified.values() for row in rows):
        hits[row["uid"]].append(row["prediction"] == row["target"])
    return {uid: statistics.mean(each) for uid, each in hits.items()}


def told(texts):
    text = " ‖ ".join(each for pair in texts for each in pair if each)
    return text if len(text) <= 300 else text[:299] + "…"


def provenance(run):
    def options(given):
        rest = ", ".join(f"{key} {value}" for key, value in given.items() if key != "type")
        return f"{given.get('type')}" + (f" ({rest})" if rest else "")

    stages, all_options, versions = {}, defaultdict(dict), set()
    for result in (each.result for each in run.cells):
        stage, inputs = result["inputs"]["stage"], result["inputs"]
        row = {
            "system": result["system"],
            "stage": result["stage"],
            "kind": stage["kind"],
            "tasks": ", ".join(stage["tasks"]),
        }
        row["objective"] = options(stage["objective"])
        row["regularizers"] = ", ".join(map(options, stage["regularizers"])) or "none"
        row["sampler"] = options(stage["sampler"]) if stage["kind"] == "joint" else ""
        stages[tuple(row.values())] = row
        parts = {"": inputs["train"], "encoder.": inputs.get("encoder", {}), "data.": inputs.get("data", {})}
        for name, value in ((f"{p}{name}", value) for p, given in parts.items() for name, value in given.items()):
            all_options[name][str(value)] = None
        versions |= {*result["versions"].items()}
    yield "stages", list(stages.values())
    yield "training-options", [{"option": name, "values": ", ".join(each)} for name, each in all_options.items()]
    yield "versions", [{"what": name, "version": version} for name, version in sorted(versions)]


TABLES = (differences, results, published, transfer, diagnostics, confusion, calibration, examples, provenance)


def expected(run):
    """Every table's rows, by its file's name."""
    found = {}
    for name, rows in (table for make in TABLES for table in make(run)):
        same = sum(each.partition("--")[0] == name for each in found)
        found[f"{name}--{same + 1}" if same else name] = rows
    return found


def faults(run, report):
    """What is not as it is here; and how many cells are."""
    return compared_with(expected(Run(run)), report)


def compared_with(known, report):
    files = {path.stem: path for path in sorted(Path(report).glob("tables/*.csv"))}
    found, num_cells = [f"{name}: no such table" for name in known if name not in files], 0
    for path in files.values():
        more, count = table_faults(path, known)
        found, num_cells = found + more, num_cells + count
    return found, num_cells


def table_faults(path, known):
    """What is not as it is here in a table's file; and how many cells it has."""
    name, found, num_cells = path.stem, [], 0
    if name not in known:
        return [f"{name}: a table that is not known here"], 0
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    if len(rows) != len(known[name]):
        return [f"{name}: {len(rows)} rows, not {len(known[name])}"], 0
    for number, (row, wanted) in enumerate(zip(rows, known[name], strict=True)):
        missing = wanted.keys() - {*header} - ({"text"} if "uid" in header else set())
        if missing or not len(row) == len(header) == len({*header}):
            found.append(f"{name}, row {number}: {len(row)} cells; no column {sorted(missing)}")
        for column, text in zip(header, row, strict=False):
            num_cells += 1
            if column not in wanted:
                found.append(f"{name}, row {number}: column '{column}' is not known here")
            elif not is_told(text, wanted[column]):
                found.append(f"{name}, row {number}, {column}: {text!r}, not {wanted[column]}")
    return found, num_cells


def stated(run):
    """(file of predictions, metric, as results.json has it, again) of every metric and interval of a run's results."""
    for each in Run(run).cells:
        for task, splits in each.result["metrics"].items():
            for split, entry in splits.items():
                path = each.file(task, split)
                for metric, value in entry["values"].items():
                    yield path, metric, value, value_of(path, metric)
                first = next(iter(entry["values"]))
                ends = np.quantile(resampled(path, first), [0.025, 0.975])
                yield from ((path, f"{first}, 95 %", *pair) for pair in zip(entry["interval_95"], ends, strict=True))


def main(run, report=None):
    wrong = [f"{path}: {name} {a}, not {b}" for path, name, a, b in stated(run) if abs(a - b) > 1e-9]
    differ, num_cells = faults(run, report or Path(run) / "report")
    print(*wrong, *differ, f"{num_cells} cells, {len(differ)} faults; {len(wrong)} results differ", sep="\n")
    return bool(wrong or differ)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
