"""What the plan says is what the run does."""

from collections import Counter, defaultdict

import pytest
from support import write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.experiment import Experiment
from mtdnn.forecast import forecast
from mtdnn.tasks import load_tasks
from mtdnn.trainer import Trainer

SYSTEMS = """
name: visits
encoder: {path: tiny, pool: mean, max_length: 32}
train: {epochs: 3, batch_size: 8, learning_rate: 1e-3}
stages:
  joint: {kind: joint, tasks: [nli, sts, rank], sampler: {type: proportional}, train: {accumulate: 2}}
  adapt:
    kind: adapt
    from: joint
    tasks: [nli]
    fractions: [0.25, 1.0]
    few_shot: {up_to: 0.25, train: {batch_size: 4, min_updates: 11}}
systems:
  mtdnn: [joint, adapt]
  free: [{name: tune, kind: finetune, tasks: [sts], objective: {type: free_at, num_steps: 3, step_size: 1e-2}}]
"""


@pytest.fixture
def job(tmp_path):
    write_toy_experiment(tmp_path, text=SYSTEMS)
    return Experiment(load_experiment(tmp_path / "toy.yaml"), load_tasks(tmp_path / "tasks"), out=tmp_path / "out")


def test_steps_and_visits_are_told_exactly(job, monkeypatch):
    told = {str(each.cell): each for each in forecast(job, job.cells, probe=False)}
    batches, units = defaultdict(Counter), defaultdict(Counter)
    run_step = Trainer.run_step

    def counted(self, step):
        cell = str(self.folder.parent.relative_to(job.out))
        for batch in step.batches:
            batches[cell][batch.task] += 1
            units[cell].update((batch.task, uid) for uid in batch.uids)
        return run_step(self, step)

    monkeypatch.setattr(Trainer, "run_step", counted)
    results = job.run()
    assert len(results) == len(told) == 4
    for cell, result in zip(job.cells, results, strict=True):
        found = told[str(cell)]
        assert found.steps == result["steps"]
        assert found.seconds is None
        for visits in found.visits:
            times = [count for (task, _), count in units[str(cell)].items() if task == visits.task]
            assert (visits.batches, visits.examples) == (batches[str(cell)][visits.task], len(times))
            assert (visits.least, visits.most) == (min(times), max(times))


def test_a_probe_gives_every_cell_a_time_and_leaves_nothing_behind(job):
    heard = []
    found = forecast(job, job.cells, probe=True, told=heard.append)
    assert all(each.seconds > 0 for each in found)
    assert [text.split(" of ")[1] for text in heard] == [
        "mtdnn/joint/joint/full/1",
        "mtdnn/adapt/nli/0.25/1",
        "free/tune/sts/full/1",
    ]
    assert not job.out.exists()
