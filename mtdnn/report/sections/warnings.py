"""What was said of the cells while they were trained and evaluated."""

from collections import Counter

from mtdnn.report.study import Section, Study


def warnings(study: Study) -> Section | None:
    found = Counter((cell.system, cell.stage, text) for cell in study.cells for text in cell.result.get("warnings", []))
    if not found:
        return None
    texts = [
        f"{system}, {stage}{f' ({count} models)' if count > 1 else ''}: {text}."
        for (system, stage, text), count in found.items()
    ]
    return Section(name="warnings", title="Warnings", text=texts, open=True)
