"""What the perturbing methods told of themselves."""

from statistics import mean

from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table

VALUES = ("delta_inf", "delta_rms/x_rms", "penalty/loss", "gain", "of_fp32", "dropout_floor")
HEADER = ("system", "stage", "task", "fraction", "method", *VALUES, "samples")


def diagnostics(study: Study) -> Section | None:
    rows = [row for group in study.groups for row in group_rows(group)]
    if not rows:
        return None
    table = Table(
        name="diagnostics",
        title="Perturbations, mean over the samples",
        header=HEADER,
        rows=rows,
        note="gain: the penalty (in adversarial objectives the rise of the loss) over that of a random change of the "
        "same size, 1 when the ascent adds nothing. "
        "of_fp32: how high an ascent in bf16 comes, over one in float32. "
        "dropout_floor: the penalty without any change.",
    )
    return Section(name="diagnostics", title="Perturbations", tables=[table])


def group_rows(group: Group) -> list[tuple[str, ...]]:
    samples = [s for cell in group.cells for s in cell.result.get("diagnostics", []) if s["task"] == group.task]
    names = dict.fromkeys(sample["regularizer"] for sample in samples)
    return [
        (
            group.system,
            group.stage,
            group.task,
            group.shown_fraction(),
            name,
            *(shown_value([s[value] for s in samples if s["regularizer"] == name and value in s]) for value in VALUES),
            str(sum(sample["regularizer"] == name for sample in samples)),
        )
        for name in names
    ]


def shown_value(values: list[float]) -> str:
    return f"{mean(values):.3g}" if values else "-"
