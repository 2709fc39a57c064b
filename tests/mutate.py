"""Breaks the package in one place at a time and looks whether a test notices: ``python tests/mutate.py``.

Each of :data:`mutations.MUTATIONS`, or with ``--protections`` what protects against faults
(:data:`faults.protections.PROTECTIONS`), is changed in a copy of the package, whose tests
then run in a process of their own. It ends with ``caught n of m``; the exit status is 1 when fewer than 95 % are
caught or a survivor has no reason.

:param --only: a part of the file's name or of the sentence.
:param --jobs: processes at a time; two by default.
"""

import argparse
import importlib
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults.protections import PROTECTIONS
from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parent.parent
COPIED = ("mtdnn", "tests", "task_defs")
# Imported once, before the processes fork: they take longer to import than the tests to run.
HEAVY = ("torch", "pytest", "pydantic", "datasets", "transformers.models.bert.modeling_bert")
ENOUGH = 0.95
LIMIT = 300  # seconds; a change that makes the tests take longer is noticed
CRASH = r"^FAILED .* - (Name|Type|Attribute|Import)Error"  # code that cannot run says nothing about numerics
PASSED, FAILED = 0, 1  # pytest's exit statuses; any other says that the tests did not run


@dataclass(frozen=True)
class Outcome:
    """What the tests said of a mutation.

    :param by: the test that failed; empty where all passed.
    :param error: why the tests did not run; empty where they did.
    """

    mutation: Mutation
    by: str
    seconds: float
    error: str = ""

    def __str__(self) -> str:
        verdict = "caught" if self.by else "NOT RUN" if self.error else "SURVIVED"
        told = f" [{self.by}]" if self.by else f"\n{self.error}" if self.error else ""
        return f"{verdict:9} {self.seconds:5.1f} s  {self.mutation.file}: {self.mutation.change}{told}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--protections", action="store_true")
    arguments = parser.parse_args()
    every = PROTECTIONS if arguments.protections else MUTATIONS
    chosen = [each for each in every if arguments.only in f"{each.file}: {each.change}"]
    if not chosen:
        parser.error(f"no change's file and name contain '{arguments.only}'")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = []
        for outcome in judged(chosen, copy_of(ROOT, Path(folder, "original")), jobs=arguments.jobs):
            print(outcome, flush=True)
            outcomes.append(outcome)
    return report(outcomes, seconds=time.monotonic() - started)


def judged(mutations: Sequence[Mutation], original: Path, *, jobs: int) -> Iterator[Outcome]:
    """The outcome of each mutation; RuntimeError when the tests fail without any."""
    for each in mutations:
        each.mutated(original)
    for name in HEAVY:
        importlib.import_module(name)
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        every = tuple(dict.fromkeys(test for each in mutations for test in each.tests))
        if failed := pool.apply(failing_test, (original, every)):
            raise RuntimeError(f"without any change, this test fails: {failed}")
        yield from pool.imap(partial(judge, original), mutations)


def judge(original: Path, mutation: Mutation) -> Outcome:
    """Make the change in a copy of its own and run its tests there."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of(original, Path(folder, "changed"))
        (root / "mtdnn" / mutation.file).write_text(mutation.mutated(root))
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(LIMIT)
        try:
            by, error = failing_test(root, mutation.tests), ""
        except RuntimeError as failure:
            by, error = "", str(failure)
        return Outcome(mutation, by, time.monotonic() - started, error)


def too_long(*_: object) -> None:
    raise TimeoutError(f"the tests take longer than {LIMIT} s")


def copy_of(source: Path, target: Path) -> Path:
    for name in COPIED:
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "setup.cfg", target)
    return target


def failing_test(root: Path, tests: Sequence[str]) -> str:
    """The first test below ``root`` that fails; empty where all pass. Takes over its process, which must be fresh."""
    import pytest

    multiprocessing.current_process()._config["daemon"] = False  # tests start processes, which a pool's may not
    assert "mtdnn" not in sys.modules, "the copy is imported, and no other"
    os.chdir(root)
    os.environ |= {"PYTHONPATH": str(root), "COLUMNS": "1000", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.dont_write_bytecode = True
    with Path("output").open("w") as output:
        os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
    status = pytest.main(["-x", "-rf", "--tb=line", *tests])
    sys.stdout.flush()
    text = Path("output").read_text()
    assert Path(sys.modules["mtdnn"].__file__ or "").is_relative_to(root)
    if status not in (PASSED, FAILED) or re.search(CRASH, text, flags=re.MULTILINE):
        raise RuntimeError(f"the tests {', '.join(tests)} did not run:\n{text}")
    return "" if status == PASSED else re.findall(r"^FAILED (\S+)", text, flags=re.MULTILINE)[0]


def report(outcomes: Sequence[Outcome], *, seconds: float) -> int:
    """Print the survivors and the count; the exit status."""
    survivors = [each.mutation for each in outcomes if not each.by]
    for each in survivors:
        print(f"survivor: {each.file}: {each.change}: {each.survives or 'NO REASON GIVEN'}")
    caught = len(outcomes) - len(survivors)
    print(f"caught {caught} of {len(outcomes)} in {seconds:.0f} s")
    return int(caught < ENOUGH * len(outcomes) or not all(each.survives for each in survivors))


if __name__ == "__main__":
    sys.exit(main())
