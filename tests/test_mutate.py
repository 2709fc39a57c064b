"""The list of mutations fits the package as it stands; ``make mutate`` tells which of them the tests notice."""

from pathlib import Path

import pytest
from faults.catalogue import CATALOGUE
from faults.protections import PROTECTIONS
from mutations import MUTATIONS
from support import ROOT


@pytest.mark.parametrize(
    "mutation", [*MUTATIONS, *PROTECTIONS], ids=lambda mutation: f"{mutation.file}: {mutation.change}"
)
def test_a_mutation_is_one_single_change_that_compiles_and_its_tests_are_there(mutation):
    text = mutation.mutated(ROOT)
    assert text != (ROOT / "mtdnn" / mutation.file).read_text()
    compile(text, mutation.file, "exec")
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}" in Path(ROOT, path).read_text()


def test_every_fault_has_a_protection_that_is_taken_out():
    assert {each.change.partition(":")[0] for each in PROTECTIONS} >= set(CATALOGUE)


def test_the_list_is_as_long_and_as_wide_as_promised():
    assert len(MUTATIONS) >= 60
    assert len({(each.file, each.change) for each in MUTATIONS}) == len(MUTATIONS)
    assert {each.file.partition("/")[0] for each in MUTATIONS} >= {"regularizers", "objectives", "heads"}
