"""Order, batches and chosen rows are those of numerics version 1: runs that were begun go on with the same bits."""

import hashlib
import json
import random

import numpy as np
import pytest
import yaml
from support import write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.data.batch import epoch_batches, sorted_batches
from mtdnn.data.subsample import prefix, seeded_order
from mtdnn.data_store import DataStore
from mtdnn.samplers.round_robin import RoundRobin
from mtdnn.tasks import load_tasks
from mtdnn.train_plan import Plan, TrainOptions


class Sizes:
    """What batching needs of a split of 1,000 units."""

    def __init__(self, *, groups):
        rng = random.Random(1)
        self.lengths = np.array([rng.randint(3, 60) for _ in range(1000)])
        self.num_rows = np.array([rng.randint(1, 7) if groups else 1 for _ in range(1000)])

    def __len__(self):
        return len(self.lengths)


def pin(value):
    """Twelve digits that stand for numbers, whatever kind of sequence holds them."""
    plain = json.dumps(value, default=lambda array: array.tolist())
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("groups", "buckets", "expected"),
    [
        (False, True, "74265b0e5f01"),
        (False, False, "36cc3692bb03"),
        (True, True, "20e1e6f2f54d"),
        (True, False, "1c63c9f674fc"),
    ],
)
def test_the_batches_of_an_epoch(groups, buckets, expected):
    batches = epoch_batches(Sizes(groups=groups), batch_size=8, seed="1/task/0/0", buckets=buckets)
    assert pin(list(batches)) == expected


@pytest.mark.parametrize(("groups", "expected"), [(False, "0cac610a0967"), (True, "0058c02524e3")])
def test_the_batches_of_an_evaluation(groups, expected):
    assert pin(list(sorted_batches(Sizes(groups=groups), batch_size=8))) == expected


def test_the_order_whose_prefixes_are_the_fractions():
    rng = random.Random(2)
    uids, strata = [f"uid-{i % 900}" for i in range(1000)], [rng.choice([0.0, 1.0, 1.0, 2.0]) for _ in range(1000)]
    order = seeded_order(uids, strata, seed=3)
    assert pin(order) == "05c7a42c9393"
    assert pin(prefix(order, Sizes(groups=True).num_rows, 500)) == "f7ff36d97191"


@pytest.mark.parametrize(
    ("accumulate", "accumulation", "updates", "expected"),
    [(1, "mixed", 1, "36325cbda1bd"), (3, "mixed", 2, "cbcd8c018ead"), (3, "same_task", 1, "aa3fc4e535d5")],
)
def test_the_steps_of_a_run(accumulate, accumulation, updates, expected):
    data = {"one": Sizes(groups=False), "two": Sizes(groups=True)}
    options = TrainOptions(epochs=3, batch_size=16, accumulate=accumulate, accumulation=accumulation, min_updates=700)
    plan = Plan(data, RoundRobin(), options, 5, updates)
    assert pin([plan.epoch(0), plan.epoch(1), plan.num_epochs(), plan.num_steps()]) == expected
    steps = [{task for task, _ in step} for epoch in (0, 1) for step in plan.epoch(epoch)]
    assert plan.task_updates(2) == {task: updates * sum(task in step for step in steps) for task in data}


@pytest.mark.parametrize(
    ("task", "choice", "expected"),
    [
        ("nli", {"fraction": None, "max_rows": None}, "38328704d1db"),
        ("nli", {"fraction": 0.5, "max_rows": None}, "1129442cce5f"),
        ("nli", {"fraction": 0.5, "max_rows": 7}, "f075d1819ba9"),
        ("sts", {"fraction": 0.3, "max_rows": 9}, "d0a209495b1f"),
        ("rank", {"fraction": None, "max_rows": 40}, "89f271599dc5"),
        ("rank", {"fraction": 0.4, "max_rows": None}, "5d205b672774"),
    ],
)
def test_the_rows_that_a_cell_trains_on(toy, task, choice, expected):
    data, counts = toy.train(task, seed=2, **choice)
    units = data.units(range(len(data)))
    columns = [units[name] for name in ("uid", "input_ids", "targets", "num_rows")]
    assert pin([counts, columns, data.num_rows, data.lengths, toy.held_out_digest]) == expected


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Three tasks, two training examples of which stand in another task's test split; ranking keeps two candidates."""
    folder = tmp_path_factory.mktemp("pinned")
    experiment = write_toy_experiment(folder)
    leaks = (folder / "tasks/sts-test.jsonl").read_text().splitlines()[:2]
    rows = [{**json.loads(line), "uid": f"leak{i}", "label": "no"} for i, line in enumerate(leaks)]
    with (folder / "tasks/nli-train.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    path = folder / "tasks/rank.yaml"
    definition = yaml.safe_load(path.read_text())
    definition["groups"]["max_candidates"] = 2
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    return DataStore(load_experiment(experiment), load_tasks(folder / "tasks"), data_dir=None)
