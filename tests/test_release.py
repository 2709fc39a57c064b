"""What a release says of itself: one version everywhere, and ranges whose lowest versions are the tested ones."""

import configparser
import re

import yaml
from packaging.requirements import Requirement
from support import ROOT

import mtdnn

# Extras whose lowest versions make test-lowest does not install.
UNTESTED = {"mypy", "playwright", "sphinx", "furo", "myst-parser", "onnx", "onnxruntime", "onnxscript"}
TORCH = "2.13.0"  # of both; see the head of constraints-lowest.txt


def pinned(name):
    """Versions by canonical name."""
    found = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / name).read_text(), flags=re.MULTILINE)
    return {canonical(package): version for package, version in found}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).casefold()


def ranges():
    """Every requirement with a range: of the package and of its extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    parsed = [Requirement(line) for text in texts for line in text.splitlines() if line]
    return {canonical(each.name): each.specifier for each in parsed if each.specifier}


def test_the_lowest_versions_that_are_tested_are_the_ranges_lowest():
    lowest, untested = pinned("constraints-lowest.txt"), UNTESTED
    for name, specifier in ranges().items():
        if name in untested or name == "torch":
            continue
        (bound,) = [each.version for each in specifier if each.operator in (">=", "==")]
        assert name in lowest, name
        stated, tested = ([int(part) for part in text.split(".")] for text in (bound, lowest[name]))
        assert tested[: len(stated)] == stated, name
        assert not any(tested[len(stated) :]), name


def test_the_pinned_versions_are_within_the_ranges():
    for name in ("constraints.txt", "constraints-lowest.txt"):
        versions = pinned(name)
        assert versions["torch"] == TORCH
        assert not [each for each, rule in ranges().items() if each in versions and versions[each] not in rule]


def test_citation_and_changelog_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], str(citation["version"])) == ("1.2.0", mtdnn.__version__)
    assert citation["authors"] == [{"name": "The mtdnn authors"}]
    assert [each["doi"] for each in citation["references"]] == ["10.18653/v1/P19-1441", "10.18653/v1/2020.acl-main.197"]
    assert f"## [{mtdnn.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
