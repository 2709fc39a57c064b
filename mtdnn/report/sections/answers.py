"""Which answers are wrong: confusion matrices, the hardest examples, those that two systems part on."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from mtdnn.report.study import Group, Section, Study
from mtdnn.report.table import Table

MOST_EXAMPLES, MOST_TEXT = 10, 300
Rows = Sequence[Mapping[str, Any]]


def is_classified(rows: Rows) -> bool:
    """Whether each unit has one of several labels, known and predicted with a probability."""
    return bool(rows) and "target" in rows[0] and isinstance(rows[0].get("probabilities"), dict)


def classified(study: Study) -> Iterator[tuple[Group, str, dict[int, Rows]]]:
    """The last groups of classification tasks, the deciding split, and the predictions by seed."""
    for group in study.last:
        split = study.best_split(group)
        rows: dict[int, Rows] = {
            cell.seed: found for cell in group.cells if is_classified(found := cell.predictions(group.task, split))
        }
        if rows:
            yield group, split, rows


def title_of(group: Group, split: str) -> str:
    return " · ".join(filter(None, [group.task, group.shown_fraction(), group.name, split]))


def confusion(study: Study) -> Section | None:
    tables = [confusion_table(group, split, list(rows.values())) for group, split, rows in classified(study)]
    return (
        Section(
            name="confusion",
            title="Confusion matrices",
            text=["Rows are the right labels, columns the predicted ones; shares of the row, mean over seeds."],
            tables=tables,
        )
        if tables
        else None
    )


def confusion_table(group: Group, split: str, runs: list[Rows]) -> Table:
    names = list(runs[0][0]["probabilities"])
    counts = Counter((row["target"], row["prediction"]) for rows in runs for row in rows)
    totals = {i: sum(counts[i, j] for j in range(len(names))) for i in range(len(names))}
    return Table(
        name=f"confusion-{group.system}-{group.task}-{group.fraction or 'full'}".replace("/", "-"),
        title=title_of(group, split),
        header=("right", *names, "examples"),
        rows=[
            (
                name,
                *(f"{100 * counts[i, j] / totals[i]:.1f} %" if totals[i] else "-" for j in range(len(names))),
                str(totals[i] // len(runs)),
            )
            for i, name in enumerate(names)
        ],
    )


def examples(study: Study) -> Section | None:
    """The examples that most runs get wrong, and those that a system gains or loses against the first."""
    tables = []
    for _, groups in study.settings():
        shares = {group.system: shares_right(study, group) for group in groups}
        shares = {system: found for system, found in shares.items() if found}
        if shares and all(set(found) == set(next(iter(shares.values()))) for found in shares.values()):
            tables += example_tables(study, groups, shares)
    return Section(name="examples", title="Examples", tables=tables) if tables else None


def shares_right(study: Study, group: Group) -> dict[str, float]:
    """The share of a group's runs that get each example right, by uid."""
    runs = [cell.predictions(group.task, study.best_split(group)) for cell in group.cells]
    hits: dict[str, list[bool]] = {}
    for row in (row for rows in runs if is_classified(rows) for row in rows):
        hits.setdefault(row["uid"], []).append(row["prediction"] == row["target"])
    return {uid: mean(found) for uid, found in hits.items()}


def example_tables(study: Study, groups: Sequence[Group], shares: Mapping[str, Mapping[str, float]]) -> list[Table]:
    group, systems = groups[0], list(shares)
    split = study.best_split(group)
    answers = (cell.predictions(group.task, split) for each in groups for cell in each.cells)
    rows = {row["uid"]: row for found in answers if is_classified(found) for row in found}
    texts = study.run_of(group).texts(group.task, split) if study.texts else None
    first = shares[systems[0]]
    hardest = sorted(first, key=lambda uid: mean(found[uid] for found in shares.values()))[:MOST_EXAMPLES]
    where = " · ".join(filter(None, [group.task, group.shown_fraction(), split]))
    tables = [example_table("hardest", f"{where}: what most runs get wrong", hardest, rows, texts, shares)]
    for system in systems[1:]:
        change = {uid: shares[system][uid] - first[uid] for uid in first}
        most = sorted((uid for uid in change if change[uid]), key=lambda uid: -abs(change[uid]))[:MOST_EXAMPLES]
        pair = {systems[0]: first, system: shares[system]}
        tables += (
            [
                example_table(
                    f"changed-{system}", f"{where}: where {system} and {systems[0]} part", most, rows, texts, pair
                )
            ]
            if most
            else []
        )
    return tables


def example_table(
    name: str,
    title: str,
    uids: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    texts: Mapping[str, list[list[str]]] | None,
    shares: Mapping[str, Mapping[str, float]],
) -> Table:
    return Table(
        name=f"{name}-{title.split(':')[0]}".replace(" · ", "-").replace(" ", "").replace("/", "-"),
        title=title,
        header=(
            "uid",
            *(["text"] if texts is not None else []),
            "right label",
            *(f"{system} right in" for system in shares),
        ),
        rows=[
            (
                uid,
                *([told(texts.get(uid, []))] if texts is not None else []),
                list(rows[uid]["probabilities"])[rows[uid]["target"]],
                *(f"{100 * found[uid]:.0f} % of runs" for found in shares.values()),
            )
            for uid in uids
        ],
    )


def told(texts: Sequence[Sequence[str]]) -> str:
    """An example's texts in one cell, not too long."""
    text = " ‖ ".join(text for pair in texts for text in pair if text)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
