"""Names, labels and texts that are markup, links, formulas or commands stay text in everything a report writes."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
from report.made_run import TRICKY, write_run

from mtdnn.report.tables import lines, results_table
from mtdnn.report.write import write_report

TASK = "<img src=x onerror=alert(1)>"
RUN = "<embed src=evil onload=alert(2)>"
FORMULA = '=HYPERLINK("http://evil.example","click")'
LINK = "[click](javascript:alert(1)) ![seen](http://evil.example/x.png) `code`"
LATEX = r"\input{secret} \write18{touch canary} [2cm] $x_1^2$ %"
EVIL = f"{FORMULA} {LINK} {LATEX}"


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a report whose every word comes from somebody who means harm, and the run's results."""
    folder = write_run(tmp_path_factory.mktemp("runs") / RUN, {"plain": 0.5, "smart": 0.6})
    for path in sorted(folder.rglob("*.json*")):
        text = path.read_text().replace('"nli"', json.dumps(TASK))
        text = text.replace(json.dumps(TRICKY)[1:-1], json.dumps(EVIL)[1:-1]).replace(
            "text of ", FORMULA.replace('"', "'")
        )
        path.write_text(text)
        path.rename(path.with_name(path.name.replace("nli", TASK)))
    (folder / "experiment.json").write_text(json.dumps({"name": RUN, "description": EVIL}))
    out = folder.parent / "report"
    write_report([folder], out)
    return out, json.loads((folder / "results.json").read_text())


@pytest.mark.fault("S5")
def test_the_page_holds_no_element_from_data(report, tried):
    page = Elements((report[0] / "report.html").read_text())
    tags = [tag for tag, _ in page.found]
    assert tags.count("script") == 1
    assert not {"img", "iframe", "object", "embed", "base", "form"} & set(tags)
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    links = [attributes["href"] for _, attributes in page.found if "href" in attributes]
    assert all(link.startswith("#") for link in links)
    shown = "".join(page.text)
    assert [text for text in (TASK, RUN, FORMULA, LINK, LATEX) if text not in shown] == []
    tried(3, "text in the page")


@pytest.mark.fault("S5")
def test_markdown_holds_no_tag_link_or_image_from_data(report, tried):
    out, results = report
    own = re.compile(r"^!\[[A-Za-z ]+\]\(figures/[a-z-]+\.png\)$", flags=re.MULTILINE)
    for text in (own.sub("", (out / "report.md").read_text()), results_table(lines(results)).markdown()):
        assert "<" not in text
        assert not re.search(r"(?<!\\)[\[\]`]", text)
    assert "&lt;img src" in text
    tried(2, "escaped")


@pytest.mark.fault("S5")
def test_no_cell_of_a_csv_is_a_formula(report, tried):
    cells = [
        cell
        for path in (report[0] / "tables").glob("*.csv")
        for row in csv.reader(path.read_text().splitlines(keepends=True))
        for cell in row
    ]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "@", "\t", "\r"))]
    assert not [cell for cell in cells if cell.startswith(("+", "-")) and re.search("[A-Za-z|!]", cell)]
    tried(len(cells), "no formula")


@pytest.mark.fault("S5")
def test_no_command_of_latex_comes_from_data(report, tried):
    own = r"\\(begin|end|hline|textbackslash|textasciitilde|textasciicircum|pm|times|Vert|rightarrow|\\|[&%$#_{}])"
    texts = [path.read_text() for path in (report[0] / "tables").glob("*.tex")]
    for text in texts:
        rest = re.sub(own, "", text)
        assert "\\" not in rest
        assert not re.search(r"\\\\\n\[", text)
    assert any(r"\textbackslash{}input\{secret\}" in text for text in texts)
    tried(len(texts), "escaped")
