"""The blocks of the documentation run as they stand, from top to bottom of their page, in an empty folder."""

import ast
import re
from importlib import import_module

import pytest
from doc_blocks import Block, Page, blocks_of, faults_of_commands
from support import ROOT

from mtdnn import errors
from mtdnn.crash import OWN_FAULT

DOCS = ROOT / "docs"
PAGES = {str(page.relative_to(DOCS)): blocks_of(page) for page in sorted(DOCS.rglob("*.md"))}
NOT_RUN = [block for blocks in PAGES.values() for block in blocks if block.reason]
MOST_NOT_RUN = 13


@pytest.mark.blocks
@pytest.mark.filterwarnings("ignore::mtdnn.metrics.base.UndefinedMetricWarning")  # a few steps of a random encoder
@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if blocks])
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, mtdnn):
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    reader = Page(folder, mtdnn)
    for block in PAGES[page]:
        if block.reason is None:
            reader.run(block)


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_the_commands_and_imports_of_a_block_that_is_not_run_are_ones_that_there_are(block):
    assert len(block.reason) > 20, "say why"
    if block.is_shell:
        assert list(faults_of_commands(block.text)) == []
    else:
        imports = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ImportFrom)]
        assert imports
        assert all(hasattr(import_module(node.module), name.name) for node in imports for name in node.names)


def test_few_blocks_are_not_run():
    assert len(NOT_RUN) <= MOST_NOT_RUN
    assert sum(len(blocks) for blocks in PAGES.values()) > 5 * len(NOT_RUN)


def test_the_commands_of_the_readme_are_ones_that_there_are():
    blocks = blocks_of(ROOT / "README.md")
    assert [fault for block in blocks if block.language == "bash" for fault in faults_of_commands(block.text)] == []


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("mtdnn runn quickstart", "runn: no such verb"),
        ("mtdnn run quickstart --sett a=1", "--sett"),
        ("mtdnn predict model", "source"),
        ("torchrun --nproc-per-node 2 -m mtdnn run", "experiment"),
        ("make quickstrat", "no target quickstrat"),
        ("python -m benchmarks.speed", "no module benchmarks.speed"),
        ("pip install 'mtdnn[gpu]'", "no extra gpu"),
        ("if true; then", "syntax error"),
    ],
)
def test_a_wrong_command_is_noticed(script, fault):
    assert any(fault in found for found in faults_of_commands(script))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# not run here: it wants a GPU\nmtdnn run quickstart", "it wants a GPU"),
        ("mtdnn predict MODEL new.csv --task a", "MODEL stands for the reader's own"),
        ("cat > a.txt <<'END'\nNLI\nEND\nmtdnn methods list", None),
    ],
)
def test_a_block_says_why_it_is_not_run(text, reason):
    assert Block("bash", text, "here:1").reason == reason


def test_right_commands_have_no_faults():
    script = "make test\n.venv/bin/mtdnn run x --plan \\\n  --set a=1  # as it is\npip install '.[plot,cluster]'"
    assert list(faults_of_commands(script)) == []


def test_a_block_that_fails_fails_its_page(tmp_path, mtdnn):
    reader = Page(tmp_path, mtdnn)
    for language, text in (("bash", "mtdnn check nosuch"), ("bash", "false | true"), ("python", "assert 1 == 2")):
        with pytest.raises(AssertionError):
            reader.run(Block(language, text, "here:1"))


def test_the_told_exit_codes_are_those_of_the_errors():
    told = dict(re.findall(r"^\| (\d+) \| (.+) \|$", (DOCS / "recovery.md").read_text(), flags=re.MULTILINE))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MtdnnError)]
    documented = {
        str(kind.exit_code): kind.__doc__.splitlines()[0].rstrip(".").replace("``", "`")
        for kind in kinds
        if kind is not errors.MtdnnError
    }
    assert len(documented) == len(kinds) - 1, "two errors have the same exit code"
    own = {code: text for code, text in told.items() if 2 < int(code) < OWN_FAULT}
    assert {code: text.casefold() for code, text in own.items()} == {c: t.casefold() for c, t in documented.items()}


def test_security_names_tests_that_are_there():
    named = re.findall(r"`(tests/\S+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 5
    assert all((ROOT / path).is_file() for path in named)
