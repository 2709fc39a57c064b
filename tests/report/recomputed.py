"""Every metric again from the predictions of a run, with NumPy alone: ``python tests/report/recomputed.py RUN``.

Shares no code with the package: the formulas are written out, the files are read as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np


def rank(values):
    """Average ranks, from 1."""
    values = np.asarray(values, dtype=float)
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def correlation(a, b):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else 0.0


def f1_of(label, given, right):
    both = ((given == label) & (right == label)).sum()
    total = (given == label).sum() + (right == label).sum()
    return 2 * both / total if total else 0.0


def matthews(given, right):
    labels = np.unique(np.concatenate([given, right]))
    codes = [(given[:, None] == labels).astype(float), (right[:, None] == labels).astype(float)]
    x, y = (code - code.mean(0) for code in codes)
    size = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / size) if size else 0.0


def ordered(scores, right):
    """The right-or-wrong of a group's candidates, best score first; earlier ones first where scores are equal."""
    return np.asarray(right)[np.argsort(-np.asarray(scores), kind="stable")]


def over_groups(score):
    def metric(given, right):
        counted = [(g, r) for g, r in zip(given, right, strict=True) if 0 < sum(r) < len(r)]
        return float(np.mean([score(ordered(g, r)) for g, r in counted])) if counted else 0.0

    return metric


def ndcg(hits, at):
    gains = 1 / np.log2(np.arange(2, len(hits) + 2))
    best = np.sort(hits)[::-1]
    return float((hits * gains)[:at].sum() / (best * gains)[:at].sum())


METRICS = {
    "accuracy": lambda given, right: float(np.mean(np.equal(given, right))),
    "f1": lambda given, right: float(f1_of(1, np.array(given), np.array(right))),
    "f1_macro": lambda given, right: float(
        np.mean([f1_of(label, np.array(given), np.array(right)) for label in {*given, *right}])
    ),
    "matthews_corrcoef": lambda given, right: matthews(np.array(given), np.array(right)),
    "pearson": correlation,
    "spearman": lambda given, right: correlation(rank(given), rank(right)),
    "mrr": over_groups(lambda hits: 1 / (1 + np.argmax(hits))),
    "map": over_groups(lambda hits: np.mean([hits[: i + 1].mean() for i in np.flatnonzero(hits)])),
    "hits@1": over_groups(lambda hits: hits[0]),
    "ndcg@10": over_groups(lambda hits: ndcg(hits, 10)),
}


def calibration_error(rows):
    """Over ten bins (0, 0.1], ... of the predicted label's probability (Guo et al., 2017, equation 3)."""
    sure = np.array([max(row["probabilities"].values()) for row in rows])
    right = np.array([row["prediction"] == row["target"] for row in rows], dtype=float)
    bins = [(sure > low / 10) & (sure <= (low + 1) / 10) for low in range(10)]
    return float(sum(here.mean() * abs(sure[here].mean() - right[here].mean()) for here in bins if here.any()))


def differences(run):
    """(cell, task, split, metric, stated, recomputed) of every number of a run's results."""
    for path in sorted(Path(run).glob("*/*/*/*/*/results.json")):
        for task, splits in json.loads(path.read_text())["metrics"].items():
            for split, entry in splits.items():
                text = (path.parent / f"predictions-{task}-{split}.jsonl").read_text(encoding="utf-8")
                rows = [json.loads(line) for line in text.split("\n") if line]
                given, right = [row["prediction"] for row in rows], [row["target"] for row in rows]
                for metric, stated in entry["values"].items():
                    yield path.parent, task, split, metric, stated, METRICS[metric](given, right)


if __name__ == "__main__":
    found = list(differences(sys.argv[1]))
    wrong = [each for each in found if abs(each[4] - each[5]) > 1e-9]
    print(*wrong, f"{len(found)} numbers, {len(wrong)} differ", sep="\n")
    sys.exit(bool(wrong))
