"""A run's folder with numbers that are known, without training anything."""

import json
import random
from pathlib import Path

TRICKY = "<script>document.title = 'run'</script> | & maybe"
LABELS = ("no", TRICKY)


def write_run(
    folder: Path, systems: dict[str, float], *, seeds=(1, 2, 3), fractions=(0.01, 0.1), num_examples=60
) -> Path:
    """Each system is right on its share of the examples, a little more at larger fractions; ``smart`` perturbs."""
    rng, order = random.Random(0), []
    gold = {f"e{number}": rng.randrange(2) for number in range(num_examples)}
    for system, share in systems.items():
        for fraction in fractions:
            for seed in seeds:
                path = Path(system, "adapt", "nli", f"{fraction:g}", str(seed))
                rows = answers(gold, share + 2 * fraction, rng)
                result = write_cell(folder / path, rows, system=system, fraction=fraction, seed=seed)
                order.append(result)
    (folder / "results.json").write_text(json.dumps(order))
    (folder / "experiment.json").write_text(json.dumps({"name": "made", "description": f"Made up. {TRICKY}"}))
    (folder / "examples").mkdir()
    texts = [{"uid": uid, "texts": [[f"text of {uid} {TRICKY}", "other"]]} for uid in gold]
    (folder / "examples/nli-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    return folder


def answers(gold, share, rng):
    """Predictions that are right on about a share of the examples, and sure of themselves by 0.5 to 1."""
    rows = []
    for uid, target in gold.items():
        label = target if rng.random() < share else 1 - target
        sure = rng.uniform(0.5, 1.0)
        shares = dict(zip(LABELS, [sure, 1 - sure] if label == 0 else [1 - sure, sure], strict=True))
        told = {"prediction": label, "label": LABELS[label], "probabilities": shares, "target": target}
        rows.append({"uid": uid, **told})
    return rows


def write_cell(folder, rows, *, system, fraction, seed):
    folder.mkdir(parents=True)
    accuracy = sum(row["prediction"] == row["target"] for row in rows) / len(rows)
    (folder / "predictions-nli-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    perturbs = [{"type": "smart", "preset": "default"}] if system.startswith("smart") else []
    sample = {"regularizer": "smart", "step": 0, "task": "nli", "gain": 3.0, "delta_inf": 0.1}
    losses = [{"epoch": epoch, "step": epoch, "losses": {"nli": 1 / epoch}} for epoch in (1, 2, 3)]
    stage = {"kind": "adapt", "tasks": ["nli"], "objective": {"type": "standard"}, "regularizers": perturbs}
    result = {
        "system": system,
        "stage": "adapt",
        "tasks": ["nli"],
        "fraction": fraction,
        "seed": seed,
        "metrics": {"nli": {"test": {"values": {"accuracy": accuracy}, "interval_95": [0, 1], "units": len(rows)}}},
        "steps": 10,
        "train_seconds": 2.0,
        "wall_seconds": 3.0,
        "history": losses,
        "diagnostics": [sample] if perturbs else [],
        "warnings": [f"smart is mostly {seed / 1e5:g} of {TRICKY}"] if perturbs else [],
        "versions": {"mtdnn": "0", "python": "3"},
        "inputs": {"stage": {**stage, "sampler": {"type": "round_robin"}}, "train": {"epochs": 3}, "upstream": None},
    }
    (folder / "results.json").write_text(json.dumps(result))
    return result
