"""How long a browser takes to open the report of a run of 500 cells.

python -m benchmarks.page

The run is made up: five systems on four tasks at five fractions with five seeds each, 200 examples a test split,
with losses, diagnostics and texts as a real one has them. Each time is of a fresh browser context (nothing cached),
from the file on the disk: until the page's load event, and until its first content is painted.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from mtdnn.report.write import write_report

BAR = 1.0  # second
SYSTEMS = ("single", "mtdnn", "smart", "smart_mtdnn", "rapt")
TASKS = ("nli", "paraphrase", "sentiment", "entailment")
FRACTIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
SEEDS = range(1, 6)
LABELS = ("no", "maybe", "yes")
WORDS = (
    "the",
    "a",
    "man",
    "woman",
    "dog",
    "street",
    "walks",
    "holding",
    "in",
    "on",
    "red",
    "playing",
    "two",
    "outside",
)
TIMES = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return [performance.getEntriesByType("navigation")[0].loadEventEnd / 1000, paint ? paint.startTime / 1000 : null];
}"""


def write_run(folder: Path, *, examples: int) -> int:
    """A run's folder, as ``mtdnn run`` leaves it; how many cells it has."""
    rng, cells = random.Random(0), []
    (folder / "examples").mkdir(parents=True)
    for task in TASKS:
        gold = [rng.randrange(len(LABELS)) for _ in range(examples)]
        lines(folder / f"examples/{task}-test.jsonl", ({"uid": f"u{i}", "texts": [pair(rng)]} for i in range(examples)))
        for number, system in enumerate(SYSTEMS):
            for fraction in FRACTIONS:
                for seed in SEEDS:
                    path = folder / system / "adapt" / task / f"{fraction:g}" / str(seed)
                    path.mkdir(parents=True)
                    rows = list(answers(gold, 0.5 + 0.02 * number + 0.3 * fraction, rng))
                    lines(path / f"predictions-{task}-test.jsonl", rows)
                    cells.append(result(system, task, fraction, seed, rows))
                    (path / "results.json").write_text(json.dumps(cells[-1]), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(cells), encoding="utf-8")
    return len(cells)


def lines(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def pair(rng: random.Random) -> list[str]:
    """Two texts of about SNLI's lengths."""
    return [" ".join(rng.choices(WORDS, k=count)) for count in (14, 8)]


def answers(gold: Sequence[int], share: float, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Right on about a share of the examples."""
    for number, target in enumerate(gold):
        label = target if rng.random() < share else rng.randrange(len(LABELS))
        sure = rng.uniform(0.4, 1.0)
        shares = {name: sure if i == label else (1 - sure) / 2 for i, name in enumerate(LABELS)}
        said = {"prediction": label, "label": LABELS[label], "probabilities": shares}
        yield {"uid": f"u{number}", **said, "target": target}


def result(system: str, task: str, fraction: float, seed: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    accuracy = sum(row["prediction"] == row["target"] for row in rows) / len(rows)
    perturbs = system != "single"
    sample = {"regularizer": "smart", "task": task, "delta_inf": 0.1, "gain": 3.0, "penalty/loss": 0.2}
    stage = {"kind": "adapt", "tasks": [task], "objective": {"type": "standard"}, "sampler": {"type": "round_robin"}}
    entry = {"values": {"accuracy": accuracy}, "interval_95": [accuracy - 0.03, accuracy + 0.03], "units": len(rows)}
    return {
        "system": system,
        "stage": "adapt",
        "tasks": [task],
        "fraction": fraction,
        "seed": seed,
        "metrics": {task: {"test": entry}},
        "steps": 500,
        "train_seconds": 100.0,
        "wall_seconds": 110.0,
        "history": [{"epoch": e, "step": 100 * e, "losses": {task: 1 / e, "smart": 0.1 / e}} for e in range(1, 6)],
        "diagnostics": [{**sample, "step": 50 * step} for step in range(10)] if perturbs else [],
        "warnings": [],
        "versions": {"mtdnn": "0", "python": "3"},
        "inputs": {
            "stage": {**stage, "regularizers": [{"type": "smart", "preset": "default"}] if perturbs else []},
            "train": {"epochs": 5, "batch_size": 32, "learning_rate": 5e-5},
            "upstream": None,
        },
    }


def opened(page: Path, *, times: int) -> list[tuple[float, float, float]]:
    """Seconds until the load event and until something is painted, and the page's processor seconds, of each time."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(times + 1):  # the first warms up
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            tab = context.new_page()
            session = context.new_cdp_session(tab)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            tab.goto(page.as_uri())
            tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            counted = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
            found.append((*tab.evaluate(TIMES), counted["TaskDuration"]))
            context.close()
        browser.close()
    return found[1:]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--examples", type=int, default=200)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        cells = write_run(Path(folder) / "run", examples=given.examples)
        page, *_ = write_report([Path(folder) / "run"], Path(folder) / "report")
        size = page.stat().st_size
        times = opened(page, times=given.repetitions)
    loaded, painted, worked = zip(*times, strict=True)
    verdict = "met" if statistics.median(loaded) <= BAR else "missed"
    told = [
        f"The page of a run of {cells} cells, {given.examples:,} examples a test split, {size / 1e6:.2f} MB, opened in",
        f"headless Chromium {given.repetitions} times; seconds by the clock, median (smallest - largest):",
        f"- loaded: {shown(loaded)}; bar {BAR:g}, {verdict};",
        f"- first content painted: {shown(painted)};",
        f"- processor seconds of the page's main thread, all it has to do until then: {shown(worked)}.",
    ]
    text = "\n".join([*told, "", f"`{measure.command('page', arguments)}`: {measure.machine()}."]) + "\n"
    measure.RESULTS.mkdir(parents=True, exist_ok=True)
    (measure.RESULTS / "page.md").write_text(text, encoding="utf-8")
    print(text)


def shown(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} - {max(seconds):.2f})"


if __name__ == "__main__":
    main(sys.argv[1:])
