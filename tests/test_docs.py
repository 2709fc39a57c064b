"""The Python blocks of the docs run as they stand; those of a page share their names."""

import re

import pytest
from support import ROOT

from mtdnn import errors
from mtdnn.crash import OWN_FAULT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, tmp_path):
    names = {"OUT": str(tmp_path)}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), names)


def test_there_is_a_page_to_run():
    assert "outside" in {page.stem for page in PAGES}


def test_the_readme_s_exit_codes_are_those_of_the_errors():
    told = dict(re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
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
