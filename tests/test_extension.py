"""A head, a regularizer, a sampler, a metric and a task: each is one new file, and nothing else changes."""

import json
import shutil
import subprocess

from support import MTDNN, ROOT, own_process, write_toy_data

NEW_FILES = {
    "mtdnn/heads/hinge.py": '''
"""One class per example, by margins."""

import torch.nn.functional as F

from mtdnn.heads.base import HEADS
from mtdnn.heads.classification import ClassificationHead


@HEADS.register("hinge")
class HingeHead(ClassificationHead):
    """Multi-class hinge loss.

    :param margin: above 0.
    """

    def __init__(self, *, hidden_size, label_words, margin: float = 1.0):
        super().__init__(hidden_size=hidden_size, label_words=label_words)
        self.margin = margin

    def loss(self, logits, batch):
        return F.multi_margin_loss(logits.float(), batch.targets, margin=self.margin, reduction="none")
''',
    "mtdnn/regularizers/confidence.py": '''
"""Pereyra et al., 2017: a price on confident outputs."""

from mtdnn.regularizers.base import REGULARIZERS, Regularizer


@REGULARIZERS.register("confidence")
class Confidence(Regularizer):
    """The squared logits.

    :param weight: at least 0.
    """

    def __init__(self, *, weight: float = 0.1):
        self.weight = weight

    def penalty(self, model, batch, clean, rng):
        return self.weight * clean.logits.square().mean()
''',
    "mtdnn/samplers/one_by_one.py": '''
"""Task after task."""

from mtdnn.samplers.base import SAMPLERS, Sampler


@SAMPLERS.register("one_by_one")
class OneByOne(Sampler):
    """All batches of the first task, then all of the second, and so on."""

    def order(self, num_batches, *, num_examples, num_epochs, seed, epoch):
        return [task for task, count in num_batches.items() for _ in range(count)]
''',
    "mtdnn/metrics/kappa.py": '''
"""Agreement beyond chance."""

from sklearn.metrics import cohen_kappa_score

from mtdnn.metrics.base import METRICS


@METRICS.register("kappa")
def kappa(predictions, targets):
    """Cohen's kappa, in [-1, 1]."""
    return float(cohen_kappa_score(targets, predictions))
''',
    "tasks/nli_by_margin.yaml": """
extends: nli
kind: hinge
head: {margin: 0.5}
metrics: [kappa, accuracy]
""",
}
EXPERIMENT = """
name: extended
encoder: {path: tiny, pool: mean, max_length: 32}
seeds: [1]
data: {drop_leaks: false}
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3}
systems:
  new:
    - kind: joint
      name: joint
      tasks: [nli_by_margin, sts]
      sampler: {type: one_by_one}
      regularizers: [{type: confidence, weight: 0.2}, {type: smart}]
"""


def test_each_new_component_is_one_new_file_and_trains(tmp_path):
    shutil.copytree(ROOT / "mtdnn", tmp_path / "mtdnn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "task_defs", tmp_path / "task_defs")
    (tmp_path / "tasks").mkdir()
    write_toy_data(tmp_path / "tasks")
    for name, text in NEW_FILES.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text)
    (tmp_path / "extended.yaml").write_text(EXPERIMENT)
    done = subprocess.run(
        [*MTDNN, "run", "extended.yaml", "--task-defs", "tasks", "--out", "out"],
        cwd=tmp_path,
        env=own_process(root=tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out/new/joint/joint/full/1/results.json").read_text())
    assert list(result["metrics"]["nli_by_margin"]["test"]["values"]) == ["kappa", "accuracy"]
    assert {"nli_by_margin", "sts", "confidence penalty", "smart penalty"} <= set(result["history"][0]["losses"])
    assert result["history"][0]["losses"]["confidence penalty"] > 0
    assert "kappa" in done.stdout
