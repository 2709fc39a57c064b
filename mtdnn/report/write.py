"""Writes the report of one or more runs: tables, figures and one page that needs no network."""

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

import mtdnn
from mtdnn.errors import ConfigError
from mtdnn.markdown import in_markdown, paragraph
from mtdnn.report.figures import draw
from mtdnn.report.sections.answers import confusion, examples
from mtdnn.report.sections.calibration import calibration
from mtdnn.report.sections.curves import learning_curves, training_curves
from mtdnn.report.sections.diagnostics import diagnostics
from mtdnn.report.sections.provenance import provenance
from mtdnn.report.sections.published import published
from mtdnn.report.sections.results import differences, results
from mtdnn.report.sections.transfer import transfer
from mtdnn.report.sections.warnings import warnings
from mtdnn.report.study import Section, Study
from mtdnn.report.svg import key, svg
from mtdnn.runs import read_runs

SECTIONS: tuple[Callable[[Study], Section | None], ...] = (
    differences,
    warnings,
    results,
    published,
    learning_curves,
    transfer,
    training_curves,
    diagnostics,
    confusion,
    calibration,
    examples,
    provenance,
)


def write_report(folders: Sequence[Path], out: Path, *, texts: bool = True) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``tables/`` (CSV, LaTeX) and ``figures/`` (PNG, SVG with matplotlib).

    :param texts: whether examples are shown with their texts.
    :raises ConfigError: when ``out`` cannot be written.
    """
    study = Study(read_runs(folders), texts=texts)
    sections = [section for make in SECTIONS if (section := make(study))]
    title = " and ".join(run.name for run in study.runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        figures = _write_figures(sections, out)
        page, text = out / "report.html", out / "report.md"
        page.write_text(html(sections, title=title), encoding="utf-8")
        linked = [str(path.relative_to(out)) for path in figures if path.suffix == ".png"]
        text.write_text(markdown(sections, title=title, figures=linked), encoding="utf-8")
        return [page, text, *figures, *_write_tables(sections, out)]
    except OSError as error:
        raise ConfigError(f"--out: {out} cannot be written: {error.strerror}; give another folder") from error


def html(sections: Sequence[Section], *, title: str) -> str:
    """The page; all that comes from data is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["svg"] = lambda panel: Markup(svg(panel))  # noqa: S704 (its texts are escaped there)
    environment.filters["key"] = lambda number: Markup(key(number))  # noqa: S704 (no text of the data in it)
    page = resources.files("mtdnn.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(page).render(title=title, sections=sections, version=mtdnn.__version__)


def markdown(sections: Sequence[Section], *, title: str, figures: Sequence[str]) -> str:
    """The same as Markdown.

    :param figures: PNG files, as the text links them.
    """
    parts = [f"# {in_markdown(title)}"]
    for section in sections:
        parts += [f"## {in_markdown(section.title)}", *map(paragraph, section.text)]
        parts += [f"![{section.title}]({path})" for path in figures if Path(path).stem == section.name]
        for table in section.tables:
            parts += [f"### {in_markdown(table.title)}", table.markdown().rstrip()]
            parts += [paragraph(table.note)] if table.note else []
    return "\n\n".join(parts) + "\n"


def _write_tables(sections: Sequence[Section], out: Path) -> list[Path]:
    folder = out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for table in (table for section in sections for table in section.tables):
        same = sum(path.stem.partition("--")[0] == table.name for path in written) // 2
        for suffix, text in (("csv", table.csv()), ("tex", table.latex())):
            path = folder / f"{table.name}{f'--{same + 1}' if same else ''}.{suffix}"
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def _write_figures(sections: Sequence[Section], out: Path) -> list[Path]:
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return [path for section in sections if section.panels for path in draw(section.panels, folder / section.name)]
