"""Counts what is tried of each fault, and prints the table at the end."""

import pytest
from faults.catalogue import CATALOGUE

HEADER = ("fault", "what", "times", "outcome", "bar")


def pytest_addoption(parser):
    parser.addoption("--scale", choices=("fast", "full"), default="fast", help="how often each fault is tried")


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(name): the line of the catalogue that the test tries")


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


def pytest_terminal_summary(terminalreporter):
    rows = {name: [] for name in CATALOGUE}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for kind, *tried in report.user_properties:
            if kind == "tried":
                rows[tried[0]].append((tried[1], tried[2], report.outcome))
    if not any(rows.values()):
        return
    terminalreporter.write_line(f"\n| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, found in rows.items():
        if not found:
            continue
        fault = CATALOGUE[name]
        outcome = "; ".join(f"{text}" if result == "passed" else f"{text} (FAILED)" for _, text, result in found)
        count = sum(number for number, *_ in found)
        terminalreporter.write_line(f"| {name} | {fault.what} | {count} | {outcome} | {fault.bar} |")
