"""What was said of the cells while they were trained and evaluated."""

import re
from collections import defaultdict

from mtdnn.report.study import Section, Study

NUMBER = re.compile(r"\d[\d.]*(e-?\d+)?")


def warnings(study: Study) -> Section | None:
    """One paragraph for each thing that was said of a stage, with the numbers of its first model."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for cell in study.cells:
        for text in cell.result.get("warnings", []):
            found[cell.system, cell.stage, NUMBER.sub("", text)].append(text)
    if not found:
        return None
    texts = [
        f"{system}, {stage}{f' ({len(each)} models)' if len(each) > 1 else ''}: {each[0]}."
        for (system, stage, _), each in found.items()
    ]
    return Section(name="warnings", title="Warnings", text=texts, open=True)
