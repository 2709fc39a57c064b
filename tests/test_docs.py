"""The Python blocks of the docs run as they stand; those of a page share their names."""

import re

import pytest
from support import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, tmp_path):
    names = {"OUT": str(tmp_path)}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), names)


def test_there_is_a_page_to_run():
    assert "outside" in {page.stem for page in PAGES}
