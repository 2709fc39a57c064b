"""Counts what is tried of each fault, and prints the table at the end."""

from collections import Counter
from pathlib import Path

import pytest
from faults.catalogue import CATALOGUE
from faults.work import Process

HEADER = ("fault", "what was done", "times", "what came of it", "what must come of it")


def pytest_addoption(parser):
    parser.addoption("--scale", choices=("fast", "full"), default="fast", help="how often each fault is tried")
    parser.addoption("--table", type=Path, help="write the table to this file too")


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(name): the line of the catalogue that the test tries")


@pytest.fixture(autouse=True)
def no_process_outlives_its_test():
    yield
    while Process.begun:
        process = Process.begun.pop()
        if process.running:
            process.kill()


@pytest.fixture
def times(request):
    """How often to try: ``times(25, full=200)``."""
    return lambda fast, *, full: full if request.config.getoption("--scale") == "full" else fast


@pytest.fixture
def tried(request):
    """Note what was tried: ``tried(25, "all bit-identical")``."""
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "mark the test with the fault that it tries"

    def note(count, outcome):
        request.node.user_properties.append(("tried", marker.args[0], count, outcome))

    return note


def pytest_terminal_summary(terminalreporter, config):
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    found = {name: [] for name in CATALOGUE}
    for report in reports:
        for kind, *tried in report.user_properties:
            if kind == "tried":
                name, count, outcome = tried
                found[name].append((count, outcome if report.passed else f"FAILED after: {outcome}"))
    rows = [row(name, tried) for name, tried in found.items() if tried]
    if not rows:
        return
    table = "\n".join([f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER), *rows])
    terminalreporter.write_line(f"\n{table}")
    if path := config.getoption("--table"):
        path.write_text(table + "\n", encoding="utf-8")


def row(name, tried):
    """A line of the table; what came of it several times stands there once."""
    fault, outcomes = CATALOGUE[name], Counter(outcome for _, outcome in tried)
    told = "; ".join(f"{outcome} ({count} x)" if count > 1 else outcome for outcome, count in outcomes.items())
    cells = (name, fault.what, str(sum(count for count, _ in tried)), told, fault.bar)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
